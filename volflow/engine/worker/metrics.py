"""Metrics of the block that a worker is computing, as part of its heartbeats to the scheduler.

The driver reads them for `status` and the live table. The page Workers of the Dask dashboard shows
`block` and `block_memory` in a table of its own: Dask's `memory` there is that of the worker's own
process, and blocks run in its child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

METRICS = "volflow"
"""Key of the metrics that the driver reads."""


class BlockMetrics(NamedTuple):
    """The block under way in a child process."""

    number: int
    seconds: float
    """Time since the block started."""
    memory: int
    """Resident memory of the child process in bytes."""
    parts_done: int
    """Parts of the block that are done, such as tiles."""
    parts_total: int
    """Parts of the block; 0: it reports none."""


def publish(current: Callable[[], BlockMetrics | None], step: str, phase: str) -> None:
    """Add the block under way to the heartbeats of this process's Dask worker, if it has one.

    Parameters
    ----------
    current : callable
        Returns the block under way; called from another thread, about every second.
    step, phase : str
        What the worker is running.
    """
    from distributed import get_worker

    try:
        metrics: dict[str, Callable[[Any], Any]] = get_worker().metrics
    except ValueError:
        return  # not called by a Dask worker

    def for_driver(worker: Any) -> dict[str, Any] | None:
        block = current()
        return None if block is None else {"step": step, "phase": phase, **block._asdict()}

    def block_text(worker: Any) -> str:
        block = current()
        if block is None:
            return ""
        parts = f", {block.parts_done} of {block.parts_total}" if block.parts_total else ""
        return f"{step} {phase} {block.number}: {block.seconds:.0f} s{parts}"

    def memory_text(worker: Any) -> str:
        block = current()
        return "" if block is None else f"{block.memory / 1e9:.2f} GB"

    metrics[METRICS] = for_driver
    metrics["block"] = block_text
    metrics["block_memory"] = memory_text
