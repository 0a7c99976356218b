"""The interface of an executor, what a run asks of one, and the split of ranges into tasks."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil

from volflow.engine.job import Job, Plan
from volflow.engine.worker.outcome import Outcome

if TYPE_CHECKING:
    from volflow.engine.executors.profile import Profile

TASK_SECONDS = 2.0  # a task costs 3 ms whatever it holds, so it holds seconds of work
PREFETCHED_BLOCKS = 4  # slow blocks per task: the next block is prefetched only within a task
PREFETCHED_SECONDS = 20.0  # the longest task that prefetching may cause: tasks report at their end

Report = Callable[[Outcome], None]
Range = tuple[int, int]


@dataclass(frozen=True)
class RunningBlock:
    """A block that a worker is computing."""

    number: int
    """Position in the grid of the phase."""
    seconds: float
    """Time since the block started."""
    worker: str
    memory: int = 0
    """Resident memory of the process that computes the block, in bytes; 0: unknown."""
    parts_done: int = 0
    """Parts of the block that are done, such as tiles of a network."""
    parts_total: int = 0
    """Parts of the block; 0: it reports none."""


class Executor(Protocol):
    """Runs the blocks of one job at a time.

    All methods except `run` and `restart_workers` are called from other threads, too.
    """

    def run(self, job: Job, ranges: Sequence[Range], report: Report) -> None:
        """Run ranges of a job's blocks; call `report` with the outcome of each piece of them."""

    def assigned(self) -> dict[Range, str]:
        """Ranges handed out, with the worker of each; '' where no worker has started one."""

    def running_blocks(self) -> list[RunningBlock]:
        """Blocks that are being computed, as far as the workers report them."""

    def workers(self) -> list[str]:
        """Names of the workers; a worker that is restarted keeps its name."""

    def retired(self) -> set[str]:
        """Names of the workers that ended as planned, and so do not count as lost."""

    def waiting(self) -> bool:
        """Whether no block can run because the executor waits for machines."""

    def restart_workers(self) -> None:
        """Restart the workers that are running blocks; their ranges are handed out again."""


@dataclass(frozen=True)
class MachineResources:
    """Cores and memory of this machine, or of the container around this process."""

    cores: int
    memory: int
    """In bytes."""

    @classmethod
    def here(cls) -> MachineResources:
        """Measure this machine or container."""
        memory = psutil.virtual_memory().total
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return cls(len(os.sched_getaffinity(0)), memory)

    @property
    def memory_for_blocks(self) -> int:
        """Bytes that all blocks together may take: nine tenths."""
        return self.memory * 9 // 10


@dataclass(frozen=True)
class PhaseRequirement:
    """Resources that a phase needs."""

    memory: int
    """Peak memory of one block in bytes."""
    blocks: int
    step: str = ""
    pool: str = ""
    """Pool of the cluster profile that runs the step."""


@dataclass(frozen=True)
class ExecutorRequest:
    """Number of workers and limits that a run requests, and the needs of its phases."""

    run: str = ""
    """Address of the run; workers on other machines have to reach it."""
    requirements: tuple[PhaseRequirement, ...] = ()
    """Of the phases to run, in their order."""
    workers: int | None = None
    """Number of local workers; None: as many as cores and memory allow."""
    search_path: tuple[str, ...] = ()
    """Folders of the user's own stages."""
    timeout: float = 0.0
    """Time limit per block in seconds; 0: none."""
    notify: Callable[[str], None] = lambda text: None
    """Called with a line for the user."""


class ExecutorModule(Protocol):
    """The functions that the module of each kind of executor has."""

    def open_executor(
        self, profile: Profile, request: ExecutorRequest
    ) -> contextlib.AbstractContextManager[Executor]:
        """Open an executor; it is closed with the context."""

    def preflight_problems(self, plan: Plan, profile: Profile) -> Iterator[str]:
        """Problems of a profile that show before anything is started, a sentence each."""


def worker_count(
    machine: MachineResources,
    requirements: Sequence[PhaseRequirement],
    workers: int | None = None,
) -> int:
    """Number of local workers: as requested, else one per core, fewer where memory is short."""
    if workers:
        return workers
    count = machine.cores
    while count > 1 and any(
        each.memory * min(count, each.blocks) > machine.memory_for_blocks for each in requirements
    ):
        count -= 1
    return max(1, count)


class TaskSplitter:
    """Splits ranges into tasks of about `TASK_SECONDS`, by the speed measured so far."""

    def __init__(self, ranges: Sequence[Range], workers: int) -> None:
        self.ranges, self.workers = deque(ranges), workers
        self.left = sum(stop - start for start, stop in ranges)
        self.seconds_per_block = 0.0
        self.first_size = max(1, min(8, self.left // (workers * 16)))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def record(self, outcome: Outcome) -> None:
        """Update the speed with the outcome of a task."""
        if outcome.done:
            seconds = max(outcome.seconds / outcome.done, 1e-6)
            before = self.seconds_per_block
            self.seconds_per_block = (before + seconds) / 2 if before else seconds

    def take(self) -> Range:
        """Remove and return the range of the next task."""
        size = self.first_size
        if self.seconds_per_block:
            fair = -(-self.left // (2 * self.workers))  # the last tasks end together
            slow = min(PREFETCHED_BLOCKS, int(PREFETCHED_SECONDS / self.seconds_per_block))
            size = max(1, min(max(int(TASK_SECONDS / self.seconds_per_block), slow), fair))
        start, stop = self.ranges.popleft()
        if stop - start > size:
            self.ranges.appendleft((start + size, stop))
            stop = start + size
        self.left -= stop - start
        return start, stop

    def put_back(self, ranges: Sequence[Range]) -> None:
        """Add ranges that have to run again."""
        self.ranges.extend(ranges)
        self.left += sum(stop - start for start, stop in ranges)
