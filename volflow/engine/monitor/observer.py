"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence

from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.result import Failure, RunResult, StepResult
from volflow.engine.worker.block_range import Outcome


class RunObserver:
    """Called by the driver as a run goes on; does nothing by itself."""

    def run_begins(self, plan: Plan) -> None:
        """The driver holds the run; nothing is started yet."""

    def run_ends(self, result: RunResult, error: str = "") -> None:
        """The driver is about to let go of the run; `error` is what ended it early."""

    def note(self, text: str) -> None:
        """Something worth a line: where the dashboard is, what was taken over."""

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        """A step starts; `result` already counts the blocks done by earlier runs."""

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        """More blocks of the step are done or failed; `sweep` is the pass under way."""

    def range_ends(self, job: Job, outcome: Outcome) -> None:
        """A worker has done a range of blocks, or was lost with some of them."""

    def block_failed(self, failure: Failure) -> None:
        """A block failed for good."""

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        """Workers, by name, are there that were not, or are gone."""

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        """Nothing was finished for so long; `under_way` says what is where, a line each."""

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        """The step has no block left to try."""
