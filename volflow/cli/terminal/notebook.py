"""Progress of a run in a notebook: the table of the terminal, updated in place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from volflow.cli.terminal.board import Board
from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.result import StepResult

EVERY = 0.5  # seconds between two updates of the table


class NotebookBoard(Board):
    """The table with a row per step, as one output of a cell."""

    def __init__(self, plan: Plan, console: Console) -> None:
        from IPython.display import display

        super().__init__(plan, console)
        self._handle: Any = display(self.table(), display_id=True)
        self._due = 0.0

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        super().step_begins(step, result)
        self._update()

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        super().progress(step, result, phase)
        self._update_if_due()

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        super().running_blocks(job, blocks)
        self._update_if_due()

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        super().step_ends(step, result)
        self._update()

    def _update_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self._update()

    def _update(self) -> None:
        self._due = time.monotonic() + EVERY
        if self._handle is not None:  # None where IPython runs without a display
            self._handle.update(self.table())
