"""Dask workers, wherever they run: ranges handed out, and what becomes of those that get lost."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from volflow.engine.executors.base import Range, Report, TaskSplitter
from volflow.engine.executors.dask_no_recompute import forbid_recompute
from volflow.engine.job import Job
from volflow.engine.worker.block_range import Outcome, contiguous, job_path, recorded_failures
from volflow.engine.worker.child_process import Limits, run_in_child
from volflow.errors import StorageError
from volflow.io.run.ledger import Ledger

WINDOW = 3  # tasks per worker that the scheduler holds
LIVES = 8  # times that a range may lose its worker without any of its blocks done
GLANCE = 1.0  # seconds between two looks at who works

logger = logging.getLogger(__name__)


class DaskExecutor:
    """Dask workers, each with a child process; a bounded window of tasks in flight.

    Parameters
    ----------
    client : distributed.Client
    search_path : tuple of str
        Folders of the user's own stages.
    timeout : float
        Seconds that a block may take; 0 is no limit.
    memory : int
        Bytes that are shared by the children at work: a pass of one node, the root of a
        reduction, may use all of it. 0 is no limit.
    each : int
        Bytes for each child instead, where they do not share a machine.
    glance : callable
        Called about every second; what it raises ends the run.
    """

    def __init__(
        self,
        client: Any,
        search_path: tuple[str, ...],
        timeout: float,
        memory: int,
        *,
        each: int = 0,
        glance: Callable[[], None] = lambda: None,
    ) -> None:
        self.client, self.search_path = client, search_path
        self.timeout, self.memory, self.each = timeout, memory, each
        self.glance = glance
        forbid_recompute(client)
        self._inside: dict[Any, Range] = {}

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Spread the ranges over the workers; what a lost worker left is done again."""
        count, looked = self._count(), time.monotonic()
        pieces, payload = TaskSplitter(todo, count), pickle.dumps(job)
        inside = self._inside = {}
        lives: dict[int, int] = {}
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            while pieces or inside:
                while pieces and len(inside) < WINDOW * count:
                    piece = pieces.take()
                    limits = self._limits(count, job)
                    future = self._submit(job, payload, piece, limits, lives)
                    inside[future] = piece
                    future.add_done_callback(finished.put)
                if time.monotonic() - looked > GLANCE:
                    self.glance()
                    count = pieces.workers = self._count()  # jobs begin and end at any time
                    looked = time.monotonic()
                try:
                    future = finished.get(timeout=GLANCE)
                except queue.Empty:
                    continue
                piece = inside.pop(future)
                outcome = self._outcome(job, future, piece, pieces, lives)
                future.release()
                pieces.measured(outcome)
                report(outcome)
        finally:
            for future in inside:
                future.cancel()

    def under_way(self) -> dict[Range, str]:
        """The ranges that are handed out; those that no worker has begun come with ''."""
        handed = dict(self._inside)  # a copy in one step: the driver goes on meanwhile
        processing = self.client.processing().items()
        where = {str(key): worker for worker, keys in processing for key in keys}
        return {piece: where.get(str(future.key), "") for future, piece in handed.items()}

    def workers(self) -> list[str]:
        """Addresses of the workers that the scheduler knows."""
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def dismissed(self) -> set[str]:
        """None: whoever goes is missed."""
        return set()

    def waits(self) -> bool:
        """Nobody says so."""
        return False

    def restart(self) -> None:
        """Have the nannies of the workers at work start them anew."""
        busy = sorted({worker for worker in self.under_way().values() if worker})
        if busy:
            self.client.run(kill_worker, workers=busy, nanny=True, on_error="ignore")

    def _count(self) -> int:
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def _limits(self, count: int, job: Job) -> Limits:
        shared = self.memory // min(count, len(job.phase.grid))
        return Limits(self.timeout, self.each or shared)

    def _submit(
        self, job: Job, payload: bytes, piece: Range, limits: Limits, lives: dict[int, int]
    ) -> Any:
        key = (job.step, job.phase.name, *piece, lives.get(piece[0], 0))
        return self.client.submit(
            run_in_child, payload, *piece, self.search_path, limits, key=key, pure=False
        )

    def _outcome(
        self, job: Job, future: Any, piece: Range, pieces: TaskSplitter, lives: dict[int, int]
    ) -> Outcome:
        """The outcome of a task; if its worker was lost, what the ledger says became of it."""
        from distributed import CancelledError, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            outcome: Outcome = future.result()
        except (KilledWorker, CancelledError, FutureCancelledError, CommClosedError) as error:
            outcome, missing = what_became_of(job, piece)
            logger.info("%s %s: worker lost (%s)", job.step, piece, error)
            for start, _ in missing:
                lives[start] = lives.get(start, lives.get(piece[0], 0)) + 1
                if lives[start] > LIVES:
                    raise StorageError(
                        f"step '{job.step}': workers were lost {LIVES} times at block "
                        f"{job.phase.grid.index(start)} of pass '{job.phase.name}'; the "
                        f"workers' logs tell why. Run again to resume"
                    ) from error
            outcome.again = missing
            pieces.return_ranges(missing)
        return outcome


def kill_worker(dask_worker: Any) -> None:
    """Kill the worker of a nanny, which starts another; run on the nanny, by Dask.

    Dask's own way to restart a worker asks it to close first, which a frozen one never does.
    """
    os.kill(dask_worker.process.pid, signal.SIGKILL)


def what_became_of(job: Job, piece: Range) -> tuple[Outcome, list[Range]]:
    """Outcome of a range by the ledger alone, and the ranges of it that nobody finished."""
    start, stop = piece
    failures = recorded_failures(job, start, stop)
    settled = {job.phase.grid.number(failure.index) for failure in failures}
    done = 0
    for a, b in Ledger(job.run).done(job_path(job)):
        inside = range(max(a, start), min(b, stop))
        done += len(inside)
        settled.update(inside)
    missing = [number for number in range(start, stop) if number not in settled]
    outcome = Outcome(done=done, failures=failures, start=start, stop=stop)
    return outcome, list(contiguous(missing))
