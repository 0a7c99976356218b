"""Progress in a notebook, with a stand-in for IPython's display."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest
from rich.console import Console
from rich.table import Table

from tests.engine.runs import planned, toy
from volflow.cli.terminal.notebook import NotebookBoard
from volflow.cli.terminal.progress import progress_display
from volflow.engine.executors.base import RunningBlock
from volflow.engine.result import StepResult


class Handle:
    """One output of a cell, and every table that it has shown."""

    def __init__(self) -> None:
        self.shown: list[Table] = []

    def update(self, table: Table) -> None:
        self.shown.append(table)


@pytest.fixture
def handle(monkeypatch):
    handle, module = Handle(), ModuleType("IPython.display")

    def display(table: Table, display_id: bool) -> Handle:
        assert display_id
        handle.update(table)
        return handle

    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return handle


def test_a_notebook_gets_one_table_that_is_updated(tmp_path, handle, monkeypatch):
    now = 0.0
    monkeypatch.setattr("volflow.cli.terminal.notebook.time.monotonic", lambda: now)
    plan = planned(tmp_path / "run", toy("Index"), toy("Double"))
    console = Console(file=io.StringIO(), force_jupyter=True, width=115)
    with progress_display(plan, console) as board:
        assert isinstance(board, NotebookBoard)
        step = plan.steps[0]
        result = StepResult("index", step.blocks, done=10)
        board.step_begins(step, result)
        assert len(handle.shown) == 2
        board.progress(step, result, "map")  # too soon after the last
        assert len(handle.shown) == 2
        now = 1.0
        board.progress(step, result, "map")
        board.step_ends(step, result)
    assert len(handle.shown) == 4
    block = RunningBlock(3, 250.0, "cpu-0", 0)
    board.running_blocks(step.jobs[0], [block])  # too soon after the last
    now = 2.0
    board.running_blocks(step.jobs[0], [block])
    assert len(handle.shown) == 5
    assert "of index has been running 4:10" in str(handle.shown[-1].caption)
    bundle = handle.shown[-1]._repr_mimebundle_([], [])
    assert "index" in bundle["text/plain"]
    assert "<pre" in bundle["text/html"]
