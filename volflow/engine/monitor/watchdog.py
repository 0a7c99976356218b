"""Beside the driver, in a thread: says that nothing finishes, and where the run stands.

The driver waits for workers, so it cannot notice that none answers. This thread looks at the
clock, at the workers there are and at what they were handed; it writes `progress.json`, which
tells other shells what the ledger cannot: what is under way, and how fast it goes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections import deque
from types import FrameType, TracebackType
from typing import Any

from volflow.engine.executors.base import Executor
from volflow.engine.executors.profile import OnStall
from volflow.engine.job import Job
from volflow.engine.monitor.events import EventLog
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.worker.block_range import Outcome, job_path
from volflow.errors import StorageError
from volflow.io.store import Store

LOOK = 1.0  # seconds between two looks
TELL = 2.0  # seconds between two writes of the progress
WINDOW = 120.0  # seconds over which the speed is measured
SHOWN = 20  # ranges that are named when nothing is finished
PROGRESS = "progress.json"

logger = logging.getLogger(__name__)


class Watchdog:
    """Watches a crew while the context lasts.

    Parameters
    ----------
    run : str
    crew : Crew
    watcher : Watcher
        Told of stalls, and of workers that come and go.
    log : EventLog
        Flushed now and then.
    stall : float
        Seconds without anything finished after which that is said, and again after twice as
        long; 0 is never.
    on_stall : OnStall
        What is done then, beside saying it.

    Attributes
    ----------
    ended : str
        Why it ended the run; empty if it did not.
    """

    def __init__(
        self,
        run: str,
        executor: Executor,
        observer: RunObserver,
        log: EventLog,
        stall: float = 0.0,
        on_stall: OnStall = "say",
    ) -> None:
        self.executor, self.observer, self.log = executor, observer, log
        self.stall, self.on_stall, self.ended = stall, on_stall, ""
        self._driver = threading.current_thread()
        self._store = Store(run)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._job: Job | None = None
        self._finished: deque[tuple[float, int]] = deque()
        self._known: set[str] = set()
        self.reset_timer()

    def __enter__(self) -> Watchdog:
        # A shell has what it runs with `&` ignore SIGINT; the watchdog's own has to come through.
        self._deaf = (
            self.on_stall == "end"
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        )
        if self._deaf:
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
        if self._deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(StorageError):
            self._store.delete(PROGRESS)

    def reset_timer(self) -> None:
        """Something was finished, or begins: the clock starts again."""
        self._last = time.monotonic()
        self._said = self.stall

    def begins(self, job: Job | None) -> None:
        """A pass begins; None: nothing is under way."""
        self._job = job
        self._finished.clear()
        self._finished.append((time.monotonic(), 0))
        self.reset_timer()

    def finished(self, outcome: Outcome) -> None:
        """A range came back; a lost worker's empty-handed, which leaves the next bark as late."""
        blocks = outcome.done + len(outcome.failures)
        self._finished.append((time.monotonic(), blocks))
        if blocks:
            self.reset_timer()
        else:
            self._last = time.monotonic()

    def speed(self) -> float:
        """Blocks per second of late; 0 while nothing is known."""
        now = time.monotonic()
        while len(self._finished) > 2 and self._finished[0][0] < now - WINDOW:
            self._finished.popleft()
        counted = list(self._finished)
        if len(counted) < 2:
            return 0.0
        blocks = sum(count for _, count in counted[1:])
        return blocks / max(now - counted[0][0], 1e-3)

    def _watch(self) -> None:
        due = 0.0
        while not self._stop.wait(LOOK):
            try:
                self._look()
                self.log.flush(due=True)
                if time.monotonic() >= due:
                    self._tell()
                    due = time.monotonic() + TELL
            except Exception as error:  # the scheduler or the store may be away; the driver knows
                logger.debug("the watchdog could not look: %s", error)

    def _look(self) -> None:
        names = set(self.executor.workers())
        joined, lost = names - self._known, self._known - names - self.executor.dismissed()
        self._known = names
        if joined or lost:
            self.observer.workers_change(sorted(joined), sorted(lost))
        if self.executor.waits():  # a queue is no stall; who waits in it says so
            self.reset_timer()
        job, quiet = self._job, time.monotonic() - self._last
        if job is not None and self.stall and quiet >= self._said:
            self._said = 2 * quiet
            self.observer.stalls(job.step, quiet, self._places(job))
            if self.on_stall == "restart":
                self.executor.restart()
            elif self.on_stall == "end":
                self._end(job, quiet)

    def _end(self, job: Job, quiet: float) -> None:
        """Interrupt the driver, wherever it waits, as Ctrl-C would."""
        if self._driver is not threading.main_thread() or self._driver.ident is None:
            logger.error("the run is not ended: its driver is not the main thread")
            return
        self.ended = f"step '{job.step}': nothing was finished for {quiet:.0f} s"
        signal.pthread_kill(self._driver.ident, signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Answer SIGINT where it is ignored: only to the watchdog's own."""
        if self.ended:
            raise KeyboardInterrupt

    def _places(self, job: Job) -> list[str]:
        """What is under way, a line each; what a worker has begun comes first."""
        held = sorted(self.executor.under_way().items(), key=lambda item: (not item[1], item[0]))
        grid = job.phase.grid
        lines = [
            f"{job.step} {job.phase.name}: blocks {start} to {stop - 1}, from "
            f"{' '.join(map(str, grid.index(start)))}: {worker or 'no worker has taken it'}"
            for (start, stop), worker in held[:SHOWN]
        ]
        more = len(held) - SHOWN
        return [*lines, f"and {more} ranges more"] if more > 0 else lines

    def _tell(self) -> None:
        job = self._job
        body: dict[str, Any] = {"time": time.time(), "workers": len(self._known)}
        if job is not None:
            body |= {
                "step": job.step,
                "job": job_path(job),
                "under_way": sorted(self.executor.under_way()),
                "blocks_per_second": self.speed(),
                "quiet": time.monotonic() - self._last,
            }
        self._store.write_json(PROGRESS, body)
