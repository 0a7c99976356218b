"""What the next block reads, read in a thread while this block is computed.

    read 0 | compute 0 | compute 1 | compute 2 |
           | read 1    | read 2    |

One block ahead and no more, so memory is bounded by one more block's inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

WORTH = 0.002  # seconds of reading below which handing it to a thread gains nothing

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Reads a block when it is asked for, and begins to read the next one.

    Parameters
    ----------
    read : callable
        What a block reads, by the block's number. Called from one other thread, never twice at
        a time.
    stop : int
        The first number behind the last block.
    begins : callable
        Told the number of a block before it is read ahead.
    on : bool
        False: nothing is ever read ahead.
    """

    def __init__(
        self,
        read: Callable[[int], T],
        stop: int,
        begins: Callable[[int], None] = lambda number: None,
        on: bool = True,
    ) -> None:
        self._read, self._stop, self._begins, self._on = read, stop, begins, on
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[tuple[T, float]]] | None = None

    def close(self) -> None:
        """End the thread; what it still reads is thrown away."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self, number: int) -> T:
        """What a block reads; an exception of its reading is raised here, whoever read it."""
        ahead, self._next = self._next, None
        seconds = 0.0
        try:
            if ahead is not None and ahead[0] == number:
                found, seconds = ahead[1].result()
            else:
                found, seconds = self._timed(number)
        except Exception:
            seconds = WORTH  # the next one may be read all the same
            raise
        finally:
            if self._on and number + 1 < self._stop and seconds >= WORTH:
                self._begin(number + 1)
        return found

    def _begin(self, number: int) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "read-ahead")
        self._begins(number)
        self._next = number, self._pool.submit(self._timed, number)

    def _timed(self, number: int) -> tuple[T, float]:
        begun = time.perf_counter()
        found = self._read(number)
        return found, time.perf_counter() - begun
