"""Progress within a block: the parts that are done, such as tiles of a network.

A function that computes a block for long calls `report_parts` now and then; `volflow status` and
the live table show the numbers. Outside a run the call does nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

Listener = Callable[[int, int], None]
"""Called with the parts done and the parts in total."""

_current = threading.local()


def report_parts(done: int, total: int) -> None:
    """Report that so many parts of the block that this thread computes are done.

    Costs less than a microsecond, but is meant for parts of milliseconds at least.
    """
    listener: Listener | None = getattr(_current, "listener", None)
    if listener is not None:
        listener(done, total)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with the reports of this thread while the context lasts."""
    before = getattr(_current, "listener", None)
    _current.listener = listener
    try:
        yield
    finally:
        _current.listener = before
