"""Blocks run one after another in this process: `--cluster none`, for debugging and small runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from volflow.core.stage.faults import exits_raise
from volflow.engine.executors.base import (
    Executor,
    ExecutorRequest,
    Range,
    Report,
    RunningBlock,
    TaskSplitter,
)
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Job, Plan
from volflow.engine.worker.block_range import run_range
from volflow.engine.worker.outcome import Progress
from volflow.engine.worker.process_state import ProcessState

NAME = "this process"


@contextlib.contextmanager
def open_executor(profile: Profile, request: ExecutorRequest) -> Iterator[Executor]:
    """Open the executor of this process, which needs nothing of the profile or the request."""
    yield InProcessExecutor()


def preflight_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """No problems: nothing is started."""
    yield from ()


class InProcessExecutor:
    """A plain loop over the blocks in this process."""

    def __init__(self) -> None:
        self._range: Range | None = None
        self._progress = _CurrentBlock()

    def run(self, job: Job, ranges: Sequence[Range], report: Report) -> None:
        """Run the ranges one after another."""
        tasks = TaskSplitter(ranges, 1)
        while tasks:
            self._range = tasks.take()
            with ProcessState() as self._progress.state, exits_raise():
                outcome = run_range(job, *self._range, self._progress)
            self._range = self._progress.current = None
            tasks.record(outcome)
            report(outcome)

    def assigned(self) -> dict[Range, str]:
        """The range that is being run."""
        piece = self._range
        return {} if piece is None else {piece: NAME}

    def running_blocks(self) -> list[RunningBlock]:
        """The block that is being computed."""
        current, (done, total) = self._progress.current, self._progress.counts
        if current is None:
            return []
        number, started = current
        seconds = time.monotonic() - started
        return [RunningBlock(number, seconds, NAME, parts_done=done, parts_total=total)]

    def workers(self) -> list[str]:
        """No workers."""
        return []

    def retired(self) -> set[str]:
        """No workers."""
        return set()

    def waiting(self) -> bool:
        """Never: there are no machines to wait for."""
        return False

    def restart_workers(self) -> None:
        """Do nothing: there are no workers."""


class _CurrentBlock(Progress):
    """The block under way, its start on the monotonic clock, and its parts done and in total."""

    current: tuple[int, float] | None = None
    counts: tuple[int, int] = (0, 0)
    state: ProcessState

    @property
    def interrupted(self) -> bool:
        """Whether a KeyboardInterrupt comes from the user."""
        return self.state.interrupted

    def begin(self, number: int) -> None:
        self.state.restore()
        self.current, self.counts = (number, time.monotonic()), (0, 0)

    def parts(self, done: int, total: int) -> None:
        self.counts = done, total
