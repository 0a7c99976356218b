"""A thread next to the driver that detects stalls and writes the run's progress.

The driver waits for workers, so it cannot notice that none answers. This thread looks at the clock,
at the workers and at the ranges they were given. It writes `progress.json`, from which other shells
read what the ledger does not hold: the blocks under way, and the speed.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from volflow.engine.executors.base import Executor, RunningBlock
from volflow.engine.executors.profile import OnStall
from volflow.engine.job import Job
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.pace import Pace
from volflow.engine.result import StepResult
from volflow.engine.worker.block_range import job_path
from volflow.engine.worker.outcome import Outcome
from volflow.errors import StorageError
from volflow.io.sealed import write_sealed
from volflow.io.store import Store

CHECK_EVERY = 1.0  # seconds between two checks
WRITE_EVERY = 2.0  # seconds between two writes of the progress
LOST_AFTER = 30.0  # seconds in which a restarted worker may come back before it counts as lost
SHOWN = 20  # ranges or blocks that are listed at most
PROGRESS = "progress.json"

logger = logging.getLogger(__name__)


class Watchdog:
    """Watches an executor while the context lasts.

    Parameters
    ----------
    run : str
        Address of the run.
    executor : Executor
    observer : RunObserver
        Notified of stalls, of workers that join or are lost, and of running blocks.
    log : EventLog
        Flushed now and then.
    stall : float
        Stall timeout in seconds: without a finished block for so long, a stall is reported, and
        again after twice as long; 0: never.
    on_stall : OnStall
        Reaction to a stall, in addition to the report.

    Attributes
    ----------
    ended : str
        Reason why the watchdog ended the run; empty if it did not.
    """

    def __init__(
        self,
        run: str,
        executor: Executor,
        observer: RunObserver,
        log: EventLog,
        stall: float = 0.0,
        on_stall: OnStall = "report",
    ) -> None:
        self.executor, self.observer, self.log = executor, observer, log
        self.stall, self.on_stall, self.ended = stall, on_stall, ""
        self._driver = threading.current_thread()
        self._store = Store(run)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._job: Job | None = None
        self._result: StepResult | None = None
        self._pace: Pace | None = None
        self._known: set[str] = set()
        self._count = 0
        self._missing: dict[str, float] = {}
        self.reset_timer()

    def __enter__(self) -> Watchdog:
        # A shell makes commands started with `&` ignore SIGINT; the watchdog's own has to arrive.
        self._ignored = (
            self.on_stall == "end"
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        )
        if self._ignored:
            signal.signal(signal.SIGINT, self._interrupt)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(StorageError):
            self._store.delete(PROGRESS)

    def reset_timer(self) -> None:
        """Restart the stall timeout."""
        self._last = time.monotonic()
        self._next_report = self.stall

    def begins(self, job: Job | None, result: StepResult | None = None) -> None:
        """Note that a phase starts, and the result of its step; None: nothing is under way."""
        if result is not self._result:
            self._result, self._pace = result, Pace(result) if result else None
            if self._pace:
                self._pace.workers = max(1, self._count)
        self._job = job
        self.reset_timer()

    def finished(self, outcome: Outcome) -> None:
        """Note that a range was returned, by its worker or, empty, because its worker was lost.

        An empty range delays the next report of a stall, but does not restart its intervals.
        """
        blocks = outcome.done + len(outcome.failures)
        if self._pace:
            self._pace.finished(blocks)
        if blocks:
            self.reset_timer()
        else:
            self._last = time.monotonic()

    def _watch(self) -> None:
        due = 0.0
        while not self._stop.wait(CHECK_EVERY):
            try:
                self._check()
                self.log.flush(due=True)
                if time.monotonic() >= due:
                    self._write_progress()
                    due = time.monotonic() + WRITE_EVERY
            except Exception as error:  # of the scheduler or the store; the driver sees it too
                logger.debug("the watchdog's check failed: %s", error)

    def _check(self) -> None:
        self._check_workers()
        if self.executor.waiting():  # waiting in a queue is no stall
            self.reset_timer()
        job, quiet = self._job, time.monotonic() - self._last
        if job is not None and self.stall and quiet >= self._next_report:
            self._next_report = 2 * quiet
            self.observer.stalls(job.step, quiet, self._assigned_lines(job))
            if self.on_stall == "restart":
                self.executor.restart_workers()
            elif self.on_stall == "end":
                self._end(job, quiet)

    def _check_workers(self) -> None:
        """Report workers that join, and those that have been missing for `LOST_AFTER` seconds."""
        now, names = time.monotonic(), set(self.executor.workers())
        retired = self.executor.retired()
        for name in self._known - names - retired:
            self._missing.setdefault(name, now)
        lost = {name for name, since in self._missing.items() if now - since >= LOST_AFTER}
        joined = names - self._known
        for name in lost | names | retired:
            self._missing.pop(name, None)
        lost -= names | retired
        self._known, self._count = names | set(self._missing), len(names)
        if self._pace:
            self._pace.workers = max(1, len(names))
            if joined:
                self._pace.restart_clock()
        if joined or lost:
            self.observer.workers_change(sorted(joined), sorted(lost))

    def _end(self, job: Job, quiet: float) -> None:
        """Interrupt the driver, wherever it waits, as Ctrl-C would."""
        if self._driver is not threading.main_thread() or self._driver.ident is None:
            logger.error("the stalled run is not ended: its driver is not the main thread")
            return
        self.ended = f"step '{job.step}': stalled; no block finished within {quiet:.0f} s"
        signal.pthread_kill(self._driver.ident, signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Answer SIGINT where it is ignored: only the watchdog's own."""
        if self.ended:
            raise KeyboardInterrupt

    def _assigned_lines(self, job: Job) -> list[str]:
        """Ranges handed out, a line each; those that a worker has started come first."""
        assigned = self.executor.assigned().items()
        pieces = sorted(assigned, key=lambda item: (not item[1], item[0]))
        grid = job.phase.grid
        lines = [
            f"{job.step} {job.phase.name}: blocks {start} to {stop - 1}, from "
            f"{' '.join(map(str, grid.index(start)))}: {worker or 'not started by any worker'}"
            for (start, stop), worker in pieces[:SHOWN]
        ]
        more = len(pieces) - SHOWN
        return [*lines, f"and {more} ranges more"] if more > 0 else lines

    def _write_progress(self) -> None:
        job, pace = self._job, self._pace
        body: dict[str, Any] = {"time": time.time(), "workers": self._count}
        if job is not None:
            blocks = sorted(self.executor.running_blocks(), key=lambda block: -block.seconds)
            self.observer.running_blocks(job, blocks)
            body |= {
                "step": job.step,
                "job": job_path(job),
                "under_way": sorted(self.executor.assigned()),
                "blocks": [_block_entry(job, block) for block in blocks[:SHOWN]],
                "blocks_per_second": pace.blocks_per_second() if pace else 0.0,
                "quiet": time.monotonic() - self._last,
            }
        write_sealed(self._store, PROGRESS, body)


def _block_entry(job: Job, block: RunningBlock) -> dict[str, Any]:
    return {
        "phase": job.phase.name,
        "index": list(job.phase.grid.index(block.number)),
        "seconds": round(block.seconds, 1),
        "worker": block.worker,
        "memory": block.memory,
        "parts": [block.parts_done, block.parts_total],
    }
