"""The interface through which a run reports its progress."""

from __future__ import annotations

from collections.abc import Sequence

from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.result import Failure, RunResult, StepResult
from volflow.engine.worker.outcome import Outcome


class RunObserver:
    """Called by the driver as a run proceeds; ignores all calls.

    `workers_change`, `stalls`, `note` and `running_blocks` may be called from another thread.
    """

    def run_begins(self, plan: Plan) -> None:
        """The driver holds the run; nothing is started yet."""

    def run_ends(self, result: RunResult, error: str = "") -> None:
        """The driver is about to release the run; `error` is the reason of an early end."""

    def note(self, text: str) -> None:
        """A line for the user, such as the dashboard's address."""

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        """A step starts; `result` already counts the blocks done in earlier sessions."""

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        """More blocks of the step are done or failed; `phase` is the phase under way."""

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        """Blocks that are being computed, every few seconds, the longest-running first."""

    def range_ends(self, job: Job, outcome: Outcome) -> None:
        """A worker has returned a range of blocks, or was lost with some of them."""

    def block_failed(self, failure: Failure) -> None:
        """A block failed for good."""

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        """Workers joined, or are lost; by name."""

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        """No block was finished for a time; `under_way` lists the ranges handed out."""

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        """The step has no block left to try."""
