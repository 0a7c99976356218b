"""Progress in a page of memory that a worker shares with its child process."""

from __future__ import annotations

import mmap
import struct
import time
from typing import NamedTuple

from volflow.engine.worker.outcome import Progress

PAGE = struct.Struct("qqdqqq")
"""The fields of `PageContent`, eight bytes each."""
UNMARKED, PREFETCHING, PARTS = 8, 24, 32
"""Offsets of fields that are written alone."""


class PageContent(NamedTuple):
    """Progress of a child process in its range of blocks."""

    number: int
    """Block under way; -1: none."""
    unmarked: int
    """First block without a marker."""
    started: float
    """Time on the monotonic clock when the block under way started."""
    prefetching: int
    """Block that is being read in advance; -1: none."""
    parts_done: int
    """Parts of the block under way that are done."""
    parts_total: int
    """Parts of the block under way; 0: it reports none."""


class SharedProgress(Progress):
    """Progress in a shared page, which outlives the process that writes it."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self.first_unmarked = 0

    @property
    def interrupted(self) -> bool:
        """Never: the child ignores SIGINT."""
        return False

    def begin(self, number: int) -> None:
        PAGE.pack_into(self.page, 0, number, self.first_unmarked, time.monotonic(), -1, 0, 0)

    def prefetches(self, number: int) -> None:
        struct.pack_into("q", self.page, PREFETCHING, number)

    def parts(self, done: int, total: int) -> None:
        struct.pack_into("qq", self.page, PARTS, done, total)

    def marked(self, number: int) -> None:
        self.first_unmarked = number
        struct.pack_into("q", self.page, UNMARKED, number)

    def rest(self) -> None:
        """Record that no block is under way."""
        struct.pack_into("q", self.page, 0, -1)
        self.prefetches(-1)

    def read(self) -> PageContent:
        """The present content of the page."""
        return PageContent(*PAGE.unpack_from(self.page, 0))
