"""The observer below every display of progress, and the texts that displays have in common."""

from __future__ import annotations

from collections.abc import Sequence

from volflow.cli.terminal.formatting import count, duration, plural, running_block_text
from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, PlannedStep
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.pace import Pace
from volflow.engine.result import StepResult

LONG_BLOCK = 30.0  # seconds after which a block that is being computed is shown


class PacedObserver(RunObserver):
    """An observer that knows the pace of the step under way, and the workers."""

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self.workers: set[str] = set()

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.pace = Pace(result)
        self.pace.workers = max(1, len(self.workers))

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        if self.pace:
            self.pace.update(result)

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        self.workers = (self.workers | set(joined)) - set(lost)
        if self.pace:
            self.pace.workers = max(1, len(self.workers))
            if joined:
                self.pace.restart_clock()


def time_left(pace: Pace, result: StepResult) -> str:
    """Time left at the present speed; empty if unknown."""
    seconds = pace.seconds_left(result.left) if result.left else None
    return "" if seconds is None else f"{duration(seconds)} left"


def longest_block_text(job: Job, blocks: Sequence[RunningBlock]) -> str:
    """The block that has been running longest, the first of the list, with its time and worker."""
    block = blocks[0]
    index = job.phase.grid.index(block.number)
    parts = block.parts_done, block.parts_total
    return running_block_text(
        job.step, index, block.seconds, worker=block.worker, memory=block.memory, parts=parts
    )


def counts(result: StepResult) -> str:
    """Done, failed and left blocks, which add up to the total."""
    return (
        f"{count(result.done)} done, {count(len(result.failures))} failed, "
        f"{count(result.left)} left of {plural(result.total, 'block')}"
    )


def stall_lines(step: str, seconds: float, under_way: Sequence[str]) -> list[str]:
    """The lines of a stall: its length, and the blocks that are running."""
    head = f"{step}: no block finished for {duration(seconds)}; running:"
    return [head, *(f"  {line}" for line in under_way or ["none: no block is assigned"])]


def first_line(error: str) -> str:
    """The first line of an error, which may be empty."""
    return (error.splitlines() or [""])[0]
