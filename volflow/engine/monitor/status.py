"""Status of a run, during it and afterwards, from any shell.

`outline.json` holds the steps and their phases, the ledger the blocks that are done or failed, and
`progress.json` what the driver has handed out, while there is a driver.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from volflow.core.geometry import Triple, zyx
from volflow.engine.monitor.watchdog import PROGRESS
from volflow.engine.result import Failure
from volflow.errors import PlanError, StorageError
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import RunLock
from volflow.io.run.owners import owner
from volflow.io.run.stored_outline import stored_outline
from volflow.io.sealed import read_sealed
from volflow.io.store import Store

FRESH = 60.0  # seconds after which the driver's progress is out of date

Range = tuple[int, int]


@dataclass
class StepStatus:
    """Blocks of a step: `done + failed + running + blocked + left == total`."""

    name: str
    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    """Handed out to workers."""
    blocked: int = 0
    """Not started until failed blocks before them are done."""
    seconds: float = 0.0
    """Work of all workers together; an estimate where a phase has very many markers."""
    causes: dict[str, int] = field(default_factory=dict)
    """Failed blocks by reason."""

    @property
    def left(self) -> int:
        """Blocks that can still be started."""
        return self.total - self.done - self.failed - self.running - self.blocked


@dataclass(frozen=True)
class BlockStatus:
    """A block that a worker is computing."""

    step: str
    phase: str
    index: Triple
    seconds: float
    """Time since the block started."""
    worker: str
    memory: int
    """Resident memory of the block's process in bytes; 0: unknown."""
    parts: tuple[int, int] = (0, 0)
    """Parts of the block done and in total, such as tiles; 0 in total: it reports none."""


@dataclass(frozen=True)
class RunStatus:
    """Status of a run."""

    run: str
    steps: list[StepStatus]
    failures: list[Failure]
    holder: dict[str, Any] | None = None
    """Host, process and start of the driver; None without one."""
    step: str = ""
    """The step under way."""
    workers: int = 0
    blocks_per_second: float = 0.0
    quiet: float = 0.0
    """Seconds since a block was finished."""
    blocks: tuple[BlockStatus, ...] = ()
    """Blocks that are being computed, the longest-running first; twenty at most."""

    @property
    def finished(self) -> bool:
        """Whether every block of every step is done."""
        return all(step.done == step.total for step in self.steps)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the step under way needs at its present speed; None if unknown."""
        for step in self.steps:
            if step.name == self.step and self.blocks_per_second > 0:
                return (step.left + step.running) / self.blocks_per_second
        return None


def outline(run: str) -> list[dict[str, Any]]:
    """Steps of a run as its driver wrote them: `name`, `digest`, `after`, `passes`.

    `passes` lists the phases, each with its number of blocks.

    Raises
    ------
    PlanError
        If no run was ever started there.
    """
    stored = stored_outline(run)
    if stored is None:
        raise PlanError(f"{run} holds no run (it has no outline.json)")
    steps: list[dict[str, Any]] = stored["steps"]
    return steps


def status(run: str) -> RunStatus:
    """Status of a run.

    Raises
    ------
    PlanError
        If no run was ever started there.
    """
    outlines, ledger = outline(run), Ledger(run)
    holder = RunLock(run).living()
    progress = _progress(run) if holder else {}
    failures: list[Failure] = []
    steps: list[StepStatus] = []
    behind = False  # a failure before: the driver does not come here
    for each in outlines:
        step = StepStatus(each["name"], 0)
        for phase, count in each["passes"]:
            path = f"{each['name']}/{each['digest']}/{phase}"
            (done, seconds), failed = ledger.progress(path), ledger.failed(path)
            assigned = progress.get("under_way", []) if progress.get("job") == path else []
            running = _unfinished(assigned, done, failed)
            finished = sum(stop - start for start, stop in done)
            rest = count - finished - len(failed) - running
            step.total += count
            step.done += finished
            step.failed += len(failed)
            step.running += running
            step.blocked += rest if behind else 0
            step.seconds += seconds
            failures += [_failure(each["name"], phase, body) for _, body in sorted(failed.items())]
            behind = behind or bool(failed)
        if step.done and _taken(each):
            step.done, step.seconds = 0, 0.0
        reasons = Counter(failure.reason for failure in failures if failure.step == step.name)
        step.causes = dict(sorted(reasons.items()))
        steps.append(step)
    return RunStatus(
        run,
        steps,
        failures,
        holder,
        step=progress.get("step", ""),
        workers=progress.get("workers", 0),
        blocks_per_second=progress.get("blocks_per_second", 0.0),
        quiet=progress.get("quiet", 0.0),
        blocks=_running_blocks(progress),
    )


def _taken(step: Mapping[str, Any]) -> bool:
    """Whether another step or run has written over a layer of a step.

    A layer in the folder of a run that was moved, and one whose store does not answer, count as
    not taken.
    """
    try:
        return any(
            owner(path, scale) not in (None, step["digest"])
            for path, scale in step.get("targets", [])
        )
    except StorageError:
        return False


def as_json(run: RunStatus) -> dict[str, Any]:
    """Status for programs: the numbers of `RunStatus` and `StepStatus` under the same names."""
    names = ("name", "total", "done", "failed", "running", "blocked", "left", "seconds", "causes")
    return {
        "run": run.run,
        "finished": run.finished,
        "held_by": run.holder,
        "step": run.step,
        "workers": run.workers,
        "blocks_per_second": run.blocks_per_second,
        "seconds_left": run.seconds_left,
        "quiet": run.quiet,
        "blocks": [asdict(block) for block in run.blocks],
        "steps": [{name: getattr(step, name) for name in names} for step in run.steps],
        "failures": [
            {
                "step": failure.step,
                "phase": failure.phase,
                "index": list(failure.index),
                "reason": failure.reason,
                "error": failure.error,
            }
            for failure in run.failures
        ],
    }


def _progress(run: str) -> dict[str, Any]:
    """The driver's last report of what is under way; empty if it is out of date."""
    stored = read_sealed(Store(run), PROGRESS, None)
    if stored is None or abs(time.time() - stored.get("time", 0)) > FRESH:
        return {}
    return stored


def _running_blocks(progress: Mapping[str, Any]) -> tuple[BlockStatus, ...]:
    """Blocks that are being computed, with the time since the driver's report added."""
    age = max(0.0, time.time() - progress.get("time", 0.0))
    return tuple(
        BlockStatus(
            progress.get("step", ""),
            entry["phase"],
            zyx(entry["index"]),
            entry["seconds"] + age,
            entry["worker"],
            entry["memory"],
            (entry["parts"][0], entry["parts"][1]),
        )
        for entry in progress.get("blocks", [])
    )


def _unfinished(
    assigned: Sequence[Range], done: Sequence[Range], failed: Mapping[int, object]
) -> int:
    """Number of blocks in the assigned ranges that are neither done nor failed."""
    count = 0
    for start, stop in assigned:
        inside = [(max(a, start), min(b, stop)) for a, b in done if a < stop and b > start]
        count += stop - start - sum(b - a for a, b in inside)
        count -= sum(start <= number < stop for number in failed)
    return count


def _failure(step: str, phase: str, body: Mapping[str, Any]) -> Failure:
    return Failure(
        step, phase, zyx(body["index"]), body["reason"], body["error"], body["traceback"]
    )
