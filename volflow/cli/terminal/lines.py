"""Progress of a run as lines of a log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from volflow.cli.terminal.formatting import count, duration, index_text, plural, speed
from volflow.cli.terminal.paced_observer import (
    LONG_BLOCK,
    PacedObserver,
    counts,
    first_line,
    longest_block_text,
    stall_lines,
    time_left,
)
from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, PlannedStep
from volflow.engine.monitor.pace import Pace
from volflow.engine.result import Failure, StepResult

PLAIN_EVERY = 10.0  # seconds between two lines of a step in a log


class Lines(PacedObserver):
    """A line when a step starts and ends, one every ten seconds, and one per failed block."""

    def __init__(self, console: Console, every: float = PLAIN_EVERY) -> None:
        super().__init__()
        self.console, self.every = console, every
        self.due = 0.0
        self.block_due = 0.0

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        before = f", {count(result.already)} done before" if result.already else ""
        if not result.left:
            before = ", all done before" if result.total else ", nothing to do"
        self.note(f"{step.name}: {plural(result.total, 'block')}{before}")
        super().step_begins(step, result)
        self.due = time.monotonic() + self.every

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        super().progress(step, result, phase)
        if time.monotonic() < self.due:
            return
        pace = self.pace or Pace(result)
        self.due = time.monotonic() + self.every
        parts = [f"{step.name}: {counts(result)}", speed(pace.voxels_per_second(result), 1.0)]
        self.note("; ".join(part for part in (*parts, time_left(pace, result), phase) if part))

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        now = time.monotonic()
        if now < self.block_due or not blocks or blocks[0].seconds < LONG_BLOCK:
            return
        self.block_due = now + max(LONG_BLOCK, blocks[0].seconds / 2)
        self.note(longest_block_text(job, blocks))

    def block_failed(self, failure: Failure) -> None:
        place = f"block {index_text(failure.index)} of phase {failure.phase}"
        self.note(f"{failure.step}: {place} failed: {first_line(failure.error)}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in stall_lines(step, seconds, under_way):
            self.note(line)

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        super().workers_change(joined, lost)
        if lost:
            self.note(f"{plural(len(lost), 'worker')} lost: {', '.join(lost)}")

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        if result.already == result.total:
            return  # reported when the step started
        rate = speed(result.voxels, result.seconds)
        took = f"{'done' if result.ok else 'stopped'} in {duration(result.seconds)}"
        parts = [f"{step.name}: {took}", counts(result), rate]
        self.note("; ".join(part for part in parts if part))
