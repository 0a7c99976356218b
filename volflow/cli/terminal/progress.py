"""How a run goes on, as it is shown: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from volflow.cli.terminal.formatting import count, duration, index_text, plural, speed
from volflow.engine.job import Plan, PlannedStep
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.result import Failure, StepResult

PLAIN_EVERY = 10.0  # seconds between two lines of a step in a log
REFRESH = 4  # times a second that the table is drawn
WIDE = 110  # columns of a terminal that has room for bars and remarks
BAR = 24
STEADY = {"speed": 14, "time": 11}  # widths that do not change with what stands in them


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


class Lines(RunObserver):
    """One line when a step begins and ends, one every ten seconds, one per failed block."""

    def __init__(self, console: Console, every: float = PLAIN_EVERY) -> None:
        self.console, self.every = console, every
        self.due = 0.0
        self.pace = Pace()
        self.under_way: StepResult | None = None

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        before = f", {count(result.already)} done before" if result.already else ""
        if not result.left:
            before = ", all done before" if result.total else ", nothing to do"
        self.note(f"{step.name}: {plural(result.total, 'block')}{before}")
        self.pace, self.under_way = Pace(), result
        self.due = time.monotonic() + self.every

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self.every
        parts = [f"{step.name}: {_counts(result)}", speed(result.voxels, self.pace.elapsed)]
        self.note("; ".join(part for part in (*parts, self.pace.left(result), phase) if part))

    def block_failed(self, failure: Failure) -> None:
        place = f"block {index_text(failure.index)} of pass {failure.phase}"
        self.note(f"{failure.step}: {place} failed: {_first_line(failure.error)}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in _stall(step, seconds, under_way):
            self.note(line)

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        if joined and self.under_way:
            self.pace.joined(self.under_way)
        if lost:
            self.note(f"{plural(len(lost), 'worker')} lost: {', '.join(lost)}")

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        if result.already == result.total:
            return  # said when it began
        rate = speed(result.voxels, result.seconds)
        took = f"{'done' if result.ok else 'stopped'} in {duration(result.seconds)}"
        parts = [f"{step.name}: {took}", _counts(result), rate]
        self.note("; ".join(part for part in parts if part))


class Board(RunObserver):
    """A table with a line per step, drawn over and over."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.console = console
        self.rows = {step.name: StepResult(step.name, step.blocks) for step in plan.chosen}
        self.under_way = ""
        self.phase = ""
        self.pace = Pace()
        self.ended: set[str] = set()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, style="dim")

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.rows[step.name] = result
        self.under_way, self.phase, self.pace = step.name, "", Pace()

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        self.phase = phase if len(step.jobs) > 1 else ""

    def block_failed(self, failure: Failure) -> None:
        place = f"{failure.step} {index_text(failure.index)} ({failure.phase})"
        self.console.print(f"[red]✗[/] {escape(place)}  {escape(_first_line(failure.error))}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in _stall(step, seconds, under_way):
            self.console.print(line, markup=False, style="yellow")

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        if joined and self.under_way:
            self.pace.joined(self.rows[self.under_way])
        if lost:
            self.note(f"{plural(len(lost), 'worker')} lost: {', '.join(lost)}")

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.under_way, self.phase = "", ""
        self.ended.add(step.name)

    def table(self) -> Table:
        """The table as things stand; a narrow terminal gets it without bars."""
        wide = self.console.width >= WIDE
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
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
        if name == self.under_way:
            mark, seconds = "[cyan]▸[/]", self.pace.elapsed
            when, remark = self.pace.left(result) or duration(seconds), self.phase
        else:
            mark, seconds = "[green]✓[/]" if result.ok else "[red]✗[/]", result.seconds
            when = duration(seconds)
            remark = f"{count(result.already)} done before" if result.already else ""
        bar = ProgressBar(max(1, result.total), result.done, width=BAR, finished_style="green")
        numbers = [total, count(result.done), failed, count(result.left)]
        cells = [*numbers, speed(result.voxels, seconds), when]
        return [mark, escape(name), *[bar] * wide, *cells, *[remark] * wide]


class Pace:
    """The clock of a step: how long it has been under way, and how long it will be.

    Time in a queue, before there was any worker, does not count.
    """

    def __init__(self) -> None:
        self.begun = time.monotonic()

    def joined(self, result: StepResult) -> None:
        """Workers are there; if nothing was tried before, the clock begins now."""
        if not _tried(result):
            self.begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.begun

    def left(self, result: StepResult) -> str:
        """How long it will take if it goes on as so far; empty before anything is known."""
        tried = _tried(result)
        return f"{duration(self.elapsed / tried * result.left)} left" if tried > 0 else ""


def _tried(result: StepResult) -> int:
    return result.done - result.already + len(result.failures)


def _counts(result: StepResult) -> str:
    """Three numbers that add up to the fourth."""
    return (
        f"{count(result.done)} done, {count(len(result.failures))} failed, "
        f"{count(result.left)} left of {plural(result.total, 'block')}"
    )


def _stall(step: str, seconds: float, under_way: Sequence[str]) -> list[str]:
    """What is said when nothing is finished."""
    head = f"{step}: nothing was finished for {duration(seconds)}; under way:"
    return [head, *(f"  {line}" for line in under_way or ["nothing is handed out"])]


def _first_line(error: str) -> str:
    return (error.splitlines() or [""])[0]
