"""Numbers, tables and failed blocks as text for a terminal or a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from volflow.cli.terminal import options
from volflow.cli.terminal.visible import visible

if TYPE_CHECKING:
    from volflow.engine.job import Plan
    from volflow.engine.result import Failure

IN_FULL = 10  # failed blocks printed with their traceback; the others get one line each
TRACEBACK_LINES = 5
LOG_WIDTH = 10_000  # columns: lines of a log are not wrapped


class VisibleConsole(Console):
    """A console that writes out the control characters of the text that it prints."""

    def print(self, *objects: Any, **more: Any) -> None:
        """Print objects as `rich.console.Console.print` does."""
        super().print(*(visible(o) if isinstance(o, str) else o for o in objects), **more)


def output() -> Console:
    """The console for results: coloured on a terminal, plain and unwrapped elsewhere."""
    return VisibleConsole(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def errors() -> Console:
    """The console for errors and messages, on stderr."""
    tty = sys.stderr.isatty()
    return VisibleConsole(
        stderr=True, highlight=False, width=None if tty else LOG_WIDTH, soft_wrap=True
    )


def count(number: float) -> str:
    """An integer with separated thousands: 12,345."""
    return f"{int(number):,}"


def size(number: float) -> str:
    """Bytes in the decimal unit that fits: 1.2 GB."""
    return decimal(int(number))


def duration(seconds: float) -> str:
    """Seconds as a short time: 7 ms, 0.4 s, 12 s, 4:05, 1:02:03."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def speed(voxels: float, seconds: float) -> str:
    """Voxels per second: 3.4 Mvoxel/s; empty without voxels or time."""
    if not voxels or seconds <= 0:
        return ""
    rate = voxels / seconds
    for factor, unit in ((1e9, "Gvoxel/s"), (1e6, "Mvoxel/s"), (1e3, "kvoxel/s")):
        if rate >= factor:
            return f"{rate / factor:.1f} {unit}"
    return f"{rate:.0f} voxel/s"


def plural(number: int, noun: str) -> str:
    """A number with its noun: `1 block`, `2 blocks`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def index_text(index: Sequence[int]) -> str:
    """A block's index as `volflow block` takes it: `0 3 2`."""
    return " ".join(str(part) for part in index)


def running_block_text(
    step: str,
    index: Sequence[int],
    seconds: float,
    *,
    worker: str,
    memory: int,
    parts: tuple[int, int],
) -> str:
    """A block that is being computed: `block 0 3 2 of predict has been running 4:10 on ...`."""
    done, total = parts
    progress = f", {count(done)} of {count(total)} parts done" if total else ""
    used = f", {size(memory)} of memory" if memory else ""
    text = f"block {index_text(index)} of {step} has been running {duration(seconds)}"
    return f"{text} on {worker}{progress}{used}"


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what a plan assumed of its inputs on stderr, a line each; nothing if quiet."""
    if warnings and not options.quiet():
        console = errors()
        for warning in warnings:
            console.print(f"warning: {warning}", markup=False)


def downsampling_lines(plan: Plan) -> Iterator[str]:
    """The factors of each input with `downsample`, and the voxel sizes before and after."""
    for name, given, factors, resolution in plan.downsampled:
        read = " x ".join(f"{side:g}" for side in resolution)
        sides = zip(resolution, factors, strict=True)
        stored = " x ".join(f"{side / factor:g}" for side, factor in sides)
        shown = "" if given == str(list(factors)) else f" is {list(factors)}"
        text = f"voxels  {name}.downsample: {given}{shown}; stored voxels of {stored} nm"
        yield (
            f"{text} are averaged to {read} nm" if read != stored else f"{text} are read unchanged"
        )


def print_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table.

    Columns after the first are right-aligned numbers unless their head ends in a blank. In a log
    the columns are aligned by spaces and never cut off.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    if console.is_terminal:
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
        for place, head in enumerate(heads):
            table.add_column(head.strip(), justify="right" if _number(place, head) else "left")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        return
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    for line in (heads, *rows):
        cells = [
            cell.rjust(width) if _number(place, heads[place]) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        console.print("  ".join(cells).rstrip(), markup=False)


def _number(place: int, head: str) -> bool:
    return place > 0 and not head.endswith(" ")


def print_failures(console: Console, run: str, failures: Sequence[Failure]) -> None:
    """Print failed blocks with their errors and the command that runs each alone."""
    console.print(f"[bold red]{plural(len(failures), 'block')} failed[/]")
    for failure in failures[:IN_FULL]:
        head = f"step {failure.step}, phase {failure.phase}, block {index_text(failure.index)}"
        reason = failure.reason
        # No traceback ends with the reason of these:
        if failure.traceback and reason not in ("exception", "storage"):
            reason += f": {failure.error}"
        console.print(f"\n[red]✗[/] [bold]{escape(head)}[/]: {escape(reason)}")
        for line in last_lines(failure):
            console.print(f"    {line}", markup=False, style="dim")
        console.print(f"  run it alone:  {rerun(run, failure)}", markup=False)
    rest = failures[IN_FULL:]
    if rest:
        console.print(f"\nand {plural(len(rest), 'block')} more:")
    for failure in rest:
        console.print(f"  {rerun(run, failure)}   {failure.reason}: {failure.error}", markup=False)


def last_lines(failure: Failure) -> list[str]:
    """The end of a failure's traceback, or its error where there is none."""
    lines = failure.traceback.rstrip().splitlines()
    text = [line for line in lines if line.strip(" ^~")]  # without Python's underlines
    return text[-TRACEBACK_LINES:] or failure.error.splitlines()


def rerun(run: str, failure: Failure) -> str:
    """The command that runs a failed block alone."""
    place = index_text(failure.index)
    return f"volflow block {_quoted(run)} {failure.step} {place} --phase {failure.phase}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
