"""The observer that writes the event log."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from volflow.engine.executors.base import RunningBlock
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.monitor import events
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.result import Failure, RunResult, StepResult
from volflow.engine.worker.outcome import Outcome
from volflow.version import __version__

LONGEST_ERROR = 1000  # characters of a block's error in the log


class Recorder(RunObserver):
    """Writes events into a log, and passes every call on to another observer."""

    def __init__(self, log: EventLog, to: RunObserver) -> None:
        self.log, self.to = log, to
        self._started = time.monotonic()

    def run_begins(self, plan: Plan) -> None:
        self._started = time.monotonic()
        steps = tuple(step.name for step in plan.chosen)
        self.log.add(events.RunBegins(__version__, socket.gethostname(), os.getpid(), steps))
        self.to.run_begins(plan)

    def run_ends(self, result: RunResult, error: str = "") -> None:
        seconds = round(time.monotonic() - self._started, 3)
        ok = result.ok and not error
        self.log.add(events.RunEnds(ok, result.interrupted, error, seconds))
        self.to.run_ends(result, error)

    def note(self, text: str) -> None:
        self.log.add(events.Note(text))
        self.to.note(text)

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.log.add(events.StepBegins(step.name, result.total, result.already))
        self.to.step_begins(step, result)

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        self.to.progress(step, result, phase)

    def running_blocks(self, job: Job, blocks: Sequence[RunningBlock]) -> None:
        self.to.running_blocks(job, blocks)

    def range_ends(self, job: Job, outcome: Outcome) -> None:
        self.log.add(
            events.RangeEnds(
                step=job.step,
                phase=job.phase.name,
                start=outcome.start,
                stop=outcome.stop,
                done=outcome.done,
                failed=len(outcome.failures),
                seconds=round(outcome.seconds, 4),
                wall=round(outcome.wall, 4),
                worker=outcome.worker,
            )
        )
        for start, stop in outcome.again:
            self.log.add(events.RangeLost(job.step, job.phase.name, start, stop))
        self.to.range_ends(job, outcome)

    def block_failed(self, failure: Failure) -> None:
        self.log.add(
            events.BlockFailed(
                failure.step,
                failure.phase,
                failure.index,
                failure.reason,
                failure.error[:LONGEST_ERROR],
            )
        )
        self.to.block_failed(failure)

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        self.log.add(events.WorkersChange(tuple(joined), tuple(lost)))
        self.to.workers_change(joined, lost)

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        self.log.add(events.Stall(step, round(seconds, 1), tuple(under_way)))
        self.to.stalls(step, seconds, under_way)

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.log.add(
            events.StepEnds(
                step.name,
                result.done,
                len(result.failures),
                result.left,
                round(result.seconds, 3),
            )
        )
        self.to.step_ends(step, result)
