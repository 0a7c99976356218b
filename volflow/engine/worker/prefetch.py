"""Read the next block in a thread while the current one is computed.

    read 0 | compute 0 | compute 1 | compute 2 |
           | read 1    | read 2    |

Only one block is read in advance, so memory grows by no more than the inputs of one block.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

WORTHWHILE = 0.002  # seconds of reading below which a thread gains nothing

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Reads a block on request, then starts to read the next one.

    Parameters
    ----------
    read : callable
        Reads the inputs of a block, by its number. Called from one other thread, never twice at a
        time.
    stop : int
        The number after the last block.
    starts : callable
        Called with the number of a block before it is read in advance.
    """

    def __init__(
        self,
        read: Callable[[int], T],
        stop: int,
        starts: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._read, self._stop, self._starts = read, stop, starts
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[tuple[T, float]]] | None = None

    def close(self) -> None:
        """End the thread, and discard what it is reading."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self, number: int) -> T:
        """Inputs of a block; raises the exception of its reading, in whichever thread it was."""
        prefetched, self._next = self._next, None
        seconds = 0.0
        try:
            if prefetched is not None and prefetched[0] == number:
                inputs, seconds = prefetched[1].result()
            else:
                inputs, seconds = self._timed(number)
        except Exception:
            seconds = WORTHWHILE  # the next block may be read all the same
            raise
        finally:
            if number + 1 < self._stop and seconds >= WORTHWHILE:
                self._start(number + 1)
        return inputs

    def _start(self, number: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "prefetch")
        self._starts(number)
        self._next = number, self._pool.submit(self._timed, number)

    def _timed(self, number: int) -> tuple[T, float]:
        started = time.perf_counter()
        inputs = self._read(number)
        return inputs, time.perf_counter() - started
