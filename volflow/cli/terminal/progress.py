"""Progress of a run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from volflow.cli.terminal.formatting import (
    count,
    duration,
    index_text,
    plural,
    running_block_text,
    speed,
)
from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.pace import Pace
from volflow.engine.result import Failure, StepResult

LONG_BLOCK = 30.0  # seconds after which a block that is being computed is shown
PLAIN_EVERY = 10.0  # seconds between two lines of a step in a log
REFRESH = 4  # times a second that the table is drawn
WIDE = 110  # columns of a terminal that has room for bars and remarks
BAR = 24
STEADY = {"speed": 14, "time": 11}  # least widths, so that columns do not jump


@contextmanager
def progress_display(plan: Plan, console: Console) -> Iterator[RunObserver]:
    """The observer that shows a run on a console: a table if it is interactive, otherwise lines."""
    if console.is_jupyter:
        from volflow.cli.terminal.notebook import NotebookBoard

        yield NotebookBoard(plan, console)
        return
    if not console.is_terminal:
        yield Lines(console)
        return
    board = Board(plan, console)
    with Live(
        get_renderable=board.table, console=console, refresh_per_second=REFRESH, transient=False
    ):
        yield board


class _Paced(RunObserver):
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


class Lines(_Paced):
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
        parts = [f"{step.name}: {_counts(result)}", speed(pace.voxels_per_second(result), 1.0)]
        self.note("; ".join(part for part in (*parts, _left(pace, result), phase) if part))

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        now = time.monotonic()
        if now < self.block_due or not blocks or blocks[0].seconds < LONG_BLOCK:
            return
        self.block_due = now + max(LONG_BLOCK, blocks[0].seconds / 2)
        self.note(_longest_block(job, blocks))

    def block_failed(self, failure: Failure) -> None:
        place = f"block {index_text(failure.index)} of phase {failure.phase}"
        self.note(f"{failure.step}: {place} failed: {_first_line(failure.error)}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in _stall(step, seconds, under_way):
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
        parts = [f"{step.name}: {took}", _counts(result), rate]
        self.note("; ".join(part for part in parts if part))


class Board(_Paced):
    """A table with a row per step, redrawn as the run proceeds."""

    def __init__(self, plan: Plan, console: Console) -> None:
        super().__init__()
        self.console = console
        self.rows = {step.name: StepResult(step.name, step.blocks) for step in plan.chosen}
        self.under_way = ""
        self.phase = ""
        self.longest_block = ""
        self.ended: set[str] = set()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, style="dim")

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.rows[step.name] = result
        self.under_way, self.phase = step.name, ""
        super().step_begins(step, result)

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        self.phase = phase if len(step.jobs) > 1 else ""
        super().progress(step, result, phase)

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        long = blocks and blocks[0].seconds >= LONG_BLOCK
        self.longest_block = _longest_block(job, blocks) if long else ""

    def block_failed(self, failure: Failure) -> None:
        place = f"{failure.step} {index_text(failure.index)} ({failure.phase})"
        self.console.print(f"[red]✗[/] {escape(place)}  {escape(_first_line(failure.error))}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in _stall(step, seconds, under_way):
            self.console.print(line, markup=False, style="yellow")

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        super().workers_change(joined, lost)
        if lost:
            self.note(f"{plural(len(lost), 'worker')} lost: {', '.join(lost)}")

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.under_way, self.phase, self.pace, self.longest_block = "", "", None, ""
        self.ended.add(step.name)

    def table(self) -> Table:
        """The table at present; without bars on a narrow terminal."""
        wide = self.console.width >= WIDE
        table = Table(
            box=None,
            header_style="dim",
            pad_edge=False,
            padding=(0, 2, 0, 0),
            caption=escape(self.longest_block) or None,
            caption_justify="left",
        )
        table.add_column("", min_width=1)
        table.add_column("step", no_wrap=True)
        if wide:
            table.add_column("", width=BAR)
        for head in ("blocks", "done", "failed", "left", "speed", "time"):
            room = STEADY.get(head, len(head))
            table.add_column(head, justify="right", no_wrap=True, min_width=room)
        if wide:
            table.add_column("", style="dim", no_wrap=True, overflow="ellipsis")
        for name, result in self.rows.items():
            table.add_row(*self._row(name, result, wide))
        return table

    def _row(self, name: str, result: StepResult, wide: bool) -> list[str | ProgressBar]:
        failed = f"[red]{count(len(result.failures))}[/]" if result.failures else ""
        total = count(result.total)
        if name != self.under_way and name not in self.ended:
            return ["[dim]·[/]", f"[dim]{escape(name)}[/]", *[""] * wide, f"[dim]{total}[/]"]
        if name == self.under_way and self.pace:
            mark, rate = "[cyan]▸[/]", speed(self.pace.voxels_per_second(result), 1.0)
            when, remark = _left(self.pace, result) or duration(self.pace.elapsed), self.phase
        else:
            mark, rate = (
                "[green]✓[/]" if result.ok else "[red]✗[/]",
                speed(result.voxels, result.seconds),
            )
            when = duration(result.seconds)
            remark = f"{count(result.already)} done before" if result.already else ""
        bar = ProgressBar(max(1, result.total), result.done, width=BAR, finished_style="green")
        numbers = [total, count(result.done), failed, count(result.left)]
        cells = [*numbers, rate, when]
        return [mark, escape(name), *[bar] * wide, *cells, *[remark] * wide]


def _left(pace: Pace, result: StepResult) -> str:
    """Time left at the present speed; empty if unknown."""
    seconds = pace.seconds_left(result.left) if result.left else None
    return "" if seconds is None else f"{duration(seconds)} left"


def _longest_block(job: Job, blocks: Sequence[RunningBlock]) -> str:
    block = blocks[0]
    index = job.phase.grid.index(block.number)
    parts = block.parts_done, block.parts_total
    return running_block_text(
        job.step, index, block.seconds, worker=block.worker, memory=block.memory, parts=parts
    )


def _counts(result: StepResult) -> str:
    """Done, failed and left blocks, which add up to the total."""
    return (
        f"{count(result.done)} done, {count(len(result.failures))} failed, "
        f"{count(result.left)} left of {plural(result.total, 'block')}"
    )


def _stall(step: str, seconds: float, under_way: Sequence[str]) -> list[str]:
    """The lines of a stall: its length, and the blocks that are running."""
    head = f"{step}: no block finished for {duration(seconds)}; running:"
    return [head, *(f"  {line}" for line in under_way or ["none: no block is assigned"])]


def _first_line(error: str) -> str:
    return (error.splitlines() or [""])[0]
