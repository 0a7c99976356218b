"""Progress of a run as a table with a row per step."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from volflow.cli.terminal.formatting import count, duration, index_text, plural, speed
from volflow.cli.terminal.paced_observer import (
    LONG_BLOCK,
    PacedObserver,
    first_line,
    longest_block_text,
    stall_lines,
    time_left,
)
from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.result import Failure, StepResult

WIDE = 110  # columns of a terminal that has room for bars and remarks
BAR = 24
STEADY = {"speed": 14, "time": 11}  # least widths, so that columns do not jump


class Board(PacedObserver):
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
        self.longest_block = longest_block_text(job, blocks) if long else ""

    def block_failed(self, failure: Failure) -> None:
        place = f"{failure.step} {index_text(failure.index)} ({failure.phase})"
        self.console.print(f"[red]✗[/] {escape(place)}  {escape(first_line(failure.error))}")

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        for line in stall_lines(step, seconds, under_way):
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
            when, remark = time_left(self.pace, result) or duration(self.pace.elapsed), self.phase
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
