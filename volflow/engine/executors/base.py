"""Whoever does the blocks: what all crews answer, what a pass needs, and how ranges are cut."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from volflow.engine.job import Job
from volflow.engine.worker.block_range import Outcome, run_range

TASK_SECONDS = 2.0  # a task costs 3 ms whatever is in it, so it is given seconds of work
AHEAD = 4  # slow blocks in a task: the next one is read beside one, but not across tasks
AHEAD_SECONDS = 20.0  # and not for their sake more than this between two reports

Report = Callable[[Outcome], None]
Range = tuple[int, int]


class Executor(Protocol):
    """Whoever does the blocks."""

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do these ranges of a job, reporting what became of each piece of them."""

    def under_way(self) -> dict[Range, str]:
        """The ranges that are handed out, and to which worker; asked from another thread."""

    def workers(self) -> list[str]:
        """The names of the workers there are; asked from another thread."""

    def dismissed(self) -> set[str]:
        """The names of those that went as they should: nobody is to be told that they are lost."""

    def waits(self) -> bool:
        """Whether nobody can be at work because machines are still being waited for."""

    def restart(self) -> None:
        """Start the workers anew that are at work; their ranges are handed out again."""


@dataclass(frozen=True)
class MachineResources:
    """What this machine, or a worker's share of it, has: cores and bytes of memory."""

    cores: int
    memory: int

    @classmethod
    def here(cls) -> MachineResources:
        """The room on this machine, or in the container that this process lives in."""
        memory = psutil.virtual_memory().total
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return cls(len(os.sched_getaffinity(0)), memory)


@dataclass(frozen=True)
class PhaseRequirement:
    """What a pass needs: bytes for each of its blocks, how many there are, and which workers."""

    memory: int
    blocks: int
    step: str = ""
    pool: str = ""
    """Name of the pool of the profile that does the step."""


def worker_count(
    room: MachineResources, needs: Sequence[PhaseRequirement], workers: int | None = None
) -> int:
    """How many local workers there are: one per core, fewer where blocks need much memory."""
    if workers:
        return workers
    count = room.cores
    while count > 1 and any(
        need.memory * min(count, need.blocks) > room.memory * 9 // 10 for need in needs
    ):
        count -= 1
    return max(1, count)


class TaskSplitter:
    """Ranges cut into pieces that take about `TASK_SECONDS`, as measured so far."""

    def __init__(self, todo: Sequence[Range], workers: int) -> None:
        self.todo, self.workers = deque(todo), workers
        self.left = sum(stop - start for start, stop in todo)
        self.per_block = 0.0
        self.first = max(1, min(8, self.left // (workers * 16)))

    def __bool__(self) -> bool:
        return bool(self.todo)

    def measured(self, outcome: Outcome) -> None:
        """Learn from what a piece took."""
        if outcome.done:
            seconds = max(outcome.seconds / outcome.done, 1e-6)
            self.per_block = (self.per_block + seconds) / 2 if self.per_block else seconds

    def take(self) -> Range:
        """The next piece."""
        size = self.first
        if self.per_block:
            fair = -(-self.left // (2 * self.workers))  # the last pieces end together
            slow = min(AHEAD, int(AHEAD_SECONDS / self.per_block))
            size = max(1, min(max(int(TASK_SECONDS / self.per_block), slow), fair))
        start, stop = self.todo.popleft()
        if stop - start > size:
            self.todo.appendleft((start + size, stop))
            stop = start + size
        self.left -= stop - start
        return start, stop

    def return_ranges(self, pieces: Sequence[Range]) -> None:
        """Put ranges back that have to be done again."""
        self.todo.extend(pieces)
        self.left += sum(stop - start for start, stop in pieces)


class InProcessExecutor:
    """A plain loop in this process: the debugger's door."""

    def __init__(self) -> None:
        self._piece: Range | None = None

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do the ranges one after another."""
        pieces = TaskSplitter(todo, 1)
        while pieces:
            self._piece = pieces.take()
            outcome = run_range(job, *self._piece)
            self._piece = None
            pieces.measured(outcome)
            report(outcome)

    def under_way(self) -> dict[Range, str]:
        """The range that is being done."""
        piece = self._piece
        return {} if piece is None else {piece: "this process"}

    def workers(self) -> list[str]:
        """None beside this process."""
        return []

    def dismissed(self) -> set[str]:
        """None either."""
        return set()

    def waits(self) -> bool:
        """Nobody is waited for."""
        return False

    def restart(self) -> None:
        """Nothing that could be restarted."""
