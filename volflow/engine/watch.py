"""What a run tells whoever watches it."""

from __future__ import annotations

from volflow.engine.job import Failure, PlannedStep, StepResult


class Watcher:
    """Called by the driver as a run goes on; does nothing by itself."""

    def note(self, text: str) -> None:
        """Something worth a line: where the dashboard is, what was taken over."""

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        """A step starts; `result` already counts the blocks done by earlier runs."""

    def progress(self, step: PlannedStep, result: StepResult, sweep: str) -> None:
        """More blocks of the step are done or failed; `sweep` is the pass under way."""

    def block_failed(self, failure: Failure) -> None:
        """A block failed for good."""

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        """The step has no block left to try."""
