"""The result of a range of blocks, and the calls by which its progress is followed.

A Dask worker imports these and none of the code that runs blocks, which its child process does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from volflow.engine.result import Failure


@dataclass
class Outcome:
    """Result of a range of blocks; small, because it is sent to the driver."""

    done: int = 0
    empty: int = 0
    """Blocks that the mask excludes; part of `done`."""
    voxels: int = 0
    seconds: float = 0.0
    """Sum over the blocks."""
    cpu: float = 0.0
    """CPU time of all threads in seconds; independent of other load on the machine."""
    peak: int = 0
    """Peak memory in bytes."""
    failures: list[Failure] = field(default_factory=list)
    start: int = 0
    stop: int = 0
    """End of the range that was handed out; `add` does not change it."""
    wall: float = 0.0
    """Seconds on the worker from the first block to the last marker."""
    worker: str = ""
    """Host and process; empty for the driver's own process."""
    again: list[tuple[int, int]] = field(default_factory=list)
    """Ranges to hand out again, because their worker was lost."""

    def add(self, other: Outcome) -> None:
        """Add the counts and failures of another range."""
        self.done += other.done
        self.empty += other.empty
        self.voxels += other.voxels
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.peak = max(self.peak, other.peak)
        self.failures += other.failures


class Progress:
    """Called as a range proceeds; ignores all calls.

    A parent process keeps a subclass that shows which block ended its child.
    """

    @property
    def interrupted(self) -> bool:
        """Whether a KeyboardInterrupt comes from the user; False: the block raised it."""
        return True

    def begin(self, number: int) -> None:
        """A block starts; the blocks before it are written."""

    def prefetches(self, number: int) -> None:
        """A block starts to be read while another one is computed."""

    def parts(self, done: int, total: int) -> None:
        """Report the finished parts of the block under way, such as tiles of a network."""

    def marked(self, number: int) -> None:
        """All blocks below this number are marked, or recorded as failed."""
