"""The event log: what happened in a run, as JSON lines beside it, for whoever comes on Monday.

    events/SESSION/NUMBER.jsonl     a few seconds of one driver's events, written once

A session is one driver's hold of the run; its name begins with the time to the microsecond, so
names sort as things happened. Objects are never appended to, so the log is the same on a disk and
on an object store. Every line has `time` (seconds since 1970) and `event`:

    run_begins   version, host, pid, steps          run_ends   ok, interrupted, error, seconds
    step_begins  step, total, already               step_ends  step, done, failed, left, seconds
    range        step, pass, start, stop, done, failed, seconds, wall, worker
    failed       step, pass, index, reason, error
    again        step, pass, start, stop            a worker was lost; these are handed out again
    workers      joined, lost                       names
    stall        seconds, step, under_way           nothing was finished for so long
    note         text
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.result import Failure, RunResult, StepResult
from volflow.engine.worker.block_range import Outcome
from volflow.errors import StorageError
from volflow.io.store import Store
from volflow.version import __version__

SOON, LATE = 5.0, 60.0  # seconds between two objects, at the beginning of a run and in the long run
MOST = 10_000  # lines of an object
AT_ONCE = ("run_begins", "run_ends", "workers", "stall")
TOGETHER = 64  # objects that are read at the same time

logger = logging.getLogger(__name__)


class EventLog:
    """Writes the events of one session; may be told things by several threads.

    A store that does not answer costs the events and not the run: they are kept and tried again.
    """

    def __init__(self, run: str) -> None:
        self._store, self._lock = Store(run), threading.Lock()
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.session = f"{now}-{secrets.token_hex(3)}"
        self._lines: list[str] = []
        self._number = 0
        self._begun = self._flushed = time.monotonic()

    def tell(self, event: str, **facts: Any) -> None:
        """Note an event; what matters is written at once, the rest a few seconds later."""
        with self._lock:  # the time too, or the lines of two threads could change places
            line = json.dumps({"time": round(time.time(), 3), "event": event, **facts})
            self._lines.append(line)
        self.flush(due=event not in AT_ONCE)

    def flush(self, due: bool = False) -> None:
        """Write what was noted; with `due`, only if it has waited long enough."""
        now = time.monotonic()
        wait = min(LATE, max(SOON, (now - self._begun) / 100))
        with self._lock:
            early = now - self._flushed < wait and len(self._lines) < MOST
            if not self._lines or (due and early):
                return
            body = "\n".join(self._lines) + "\n"
            self._flushed = now
            try:
                self._store.write(f"events/{self.session}/{self._number:06}.jsonl", body.encode())
            except StorageError as error:
                logger.info("events are kept back: %s", error)
                del self._lines[: -10 * MOST]  # memory stays bounded while the store is away
                return
            self._number += 1
            self._lines.clear()


def read_events(run: str, session: str = "") -> Iterator[dict[str, Any]]:
    """The events of a run in the order in which they were written, of one session or of all.

    A line that is not ours is passed over: a log that is read wrong must not stop a report.
    """
    store = Store(run)
    prefix = f"events/{session}/" if session else "events/"
    names = [name for name in store.list(prefix) if name.endswith(".jsonl")]
    for start in range(0, len(names), TOGETHER):
        keys = [prefix + name for name in names[start : start + TOGETHER]]
        bodies = store.read_many(keys)
        for key in keys:
            for line in bodies.get(key, b"").splitlines():
                found = _event(line)
                if found is not None:
                    yield found


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    ours = isinstance(found, dict) and "event" in found and "time" in found
    return found if ours else None


class Recorder(RunObserver):
    """Writes what it is told into the log, and passes it on."""

    def __init__(self, log: EventLog, to: RunObserver) -> None:
        self.log, self.to = log, to
        self._begun = time.monotonic()

    def run_begins(self, plan: Plan) -> None:
        self._begun = time.monotonic()
        steps = [step.name for step in plan.chosen]
        host, pid = socket.gethostname(), os.getpid()
        self.log.tell("run_begins", version=__version__, host=host, pid=pid, steps=steps)
        self.to.run_begins(plan)

    def run_ends(self, result: RunResult, error: str = "") -> None:
        self.log.tell(
            "run_ends",
            ok=result.ok and not error,
            interrupted=result.interrupted,
            error=error,
            seconds=round(time.monotonic() - self._begun, 3),
        )
        self.to.run_ends(result, error)

    def note(self, text: str) -> None:
        self.log.tell("note", text=text)
        self.to.note(text)

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.log.tell("step_begins", step=step.name, total=result.total, already=result.already)
        self.to.step_begins(step, result)

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        self.to.progress(step, result, phase)

    def range_ends(self, job: Job, outcome: Outcome) -> None:
        place = {"step": job.step, "pass": job.phase.name}
        self.log.tell(
            "range",
            **place,
            start=outcome.start,
            stop=outcome.stop,
            done=outcome.done,
            failed=len(outcome.failures),
            seconds=round(outcome.seconds, 4),
            wall=round(outcome.wall, 4),
            worker=outcome.worker,
        )
        for start, stop in outcome.again:
            self.log.tell("again", **place, start=start, stop=stop)
        self.to.range_ends(job, outcome)

    def block_failed(self, failure: Failure) -> None:
        self.log.tell(
            "failed",
            **{"step": failure.step, "pass": failure.phase},
            index=list(failure.index),
            reason=failure.reason,
            error=failure.error[:1000],
        )
        self.to.block_failed(failure)

    def workers_change(self, joined: Sequence[str], lost: Sequence[str]) -> None:
        self.log.tell("workers", joined=list(joined), lost=list(lost))
        self.to.workers_change(joined, lost)

    def stalls(self, step: str, seconds: float, under_way: Sequence[str]) -> None:
        self.log.tell("stall", step=step, seconds=round(seconds, 1), under_way=list(under_way))
        self.to.stalls(step, seconds, under_way)

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.log.tell(
            "step_ends",
            step=step.name,
            done=result.done,
            failed=len(result.failures),
            left=result.left,
            seconds=round(result.seconds, 3),
        )
        self.to.step_ends(step, result)
