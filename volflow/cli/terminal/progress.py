"""Progress of a run: a live table on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from volflow.cli.terminal.board import Board
from volflow.cli.terminal.lines import Lines
from volflow.cli.terminal.notebook import NotebookBoard
from volflow.engine.job import Plan
from volflow.engine.monitor.observer import RunObserver

REFRESH = 4  # times a second that the table is drawn


@contextmanager
def progress_display(plan: Plan, console: Console) -> Iterator[RunObserver]:
    """The observer that shows a run on a console: a table if it is interactive, otherwise lines."""
    if console.is_jupyter:
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
