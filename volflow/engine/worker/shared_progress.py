"""Progress in a page of memory that a worker shares with its child process."""

from __future__ import annotations

import mmap
import struct
import time

from volflow.engine.worker.block_range import Progress

PAGE = struct.Struct("qqdq")
"""Block under way (-1: none), first unmarked block, start time of the block under way on the
monotonic clock, and block being prefetched (-1: none)."""


class SharedProgress(Progress):
    """Progress in a shared page, which outlives the process that writes it."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self.first_unmarked = 0

    def begin(self, number: int) -> None:
        PAGE.pack_into(self.page, 0, number, self.first_unmarked, time.monotonic(), -1)

    def prefetches(self, number: int) -> None:
        struct.pack_into("q", self.page, PAGE.size - 8, number)

    def marked(self, number: int) -> None:
        self.first_unmarked = number
        struct.pack_into("q", self.page, 8, number)

    def rest(self) -> None:
        """Record that no block is under way."""
        struct.pack_into("q", self.page, 0, -1)
        self.prefetches(-1)

    def read(self) -> tuple[int, int, float]:
        """Block under way (-1: none), first unmarked block, and start time of the former."""
        number, unmarked, started, _ = PAGE.unpack_from(self.page, 0)
        return number, unmarked, started

    @property
    def prefetching(self) -> bool:
        """Whether another block was being read while the block under way was computed."""
        return bool(PAGE.unpack_from(self.page, 0)[3] >= 0)
