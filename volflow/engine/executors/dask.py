"""Dask workers of any cluster: hand out ranges of blocks, and recover those of lost workers."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import queue
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from volflow.engine.executors.base import Range, Report, RunningBlock, TaskSplitter
from volflow.engine.executors.dask_no_recompute import forbid_recompute
from volflow.engine.executors.lost_scheduler import require_scheduler, scheduler_errors
from volflow.engine.fence import require_current
from volflow.engine.job import Job
from volflow.engine.worker.child_death import Limits
from volflow.engine.worker.child_process import run_in_child
from volflow.engine.worker.ledger_outcome import outcome_by_ledger
from volflow.engine.worker.metrics import METRICS
from volflow.engine.worker.outcome import Outcome
from volflow.errors import RunHeld, StorageError

TASKS_PER_WORKER = 3  # that the scheduler holds
LOSSES_ALLOWED = 8  # times that a range may lose its worker without any of its blocks done
STALE_ALLOWED = 60  # times that a worker may not see our lock, of about 1.5 s each: network disks
CHECK_EVERY = 1.0  # seconds between two checks of the workers

logger = logging.getLogger(__name__)


def worker_label(name: object, address: str) -> str:
    """Name of a worker in messages: the numbers of a local cluster become `worker-0`."""
    if isinstance(name, int):
        return f"worker-{name}"
    return str(name or address)


class DaskExecutor:
    """Dask workers, each with a child process; a bounded number of tasks in flight.

    Parameters
    ----------
    client : distributed.Client
    search_path : tuple of str
        Folders of the user's own stages.
    timeout : float
        Time limit per block in seconds; 0: none.
    shared_memory : int
        Bytes that all child processes may take together. A phase of a single block (the root of a
        reduction) may take all of it. 0: no limit.
    memory_per_worker : int
        Bytes for each child process instead, where workers do not share a machine.
    check : callable
        Called about every second while blocks run; an exception it raises ends the run.
    label : callable
        Name of a worker in messages, by its Dask name and address.
    """

    def __init__(
        self,
        client: Any,
        search_path: tuple[str, ...] = (),
        timeout: float = 0.0,
        *,
        shared_memory: int = 0,
        memory_per_worker: int = 0,
        check: Callable[[], None] = lambda: None,
        label: Callable[[object, str], str] = worker_label,
    ) -> None:
        self.client, self.search_path, self.timeout = client, search_path, timeout
        self.shared_memory, self.memory_per_worker = shared_memory, memory_per_worker
        self.check, self.label = check, label
        forbid_recompute(client)
        self._in_flight: dict[Any, Range] = {}
        self._numbers = itertools.count()
        self._job: Job | None = None

    def run(self, job: Job, ranges: Sequence[Range], report: Report) -> None:
        """Spread the ranges over the workers; blocks of a lost worker are handed out again.

        Raises
        ------
        ClusterError
            If the scheduler is lost.
        """
        with scheduler_errors(self.client):
            self._run(job, ranges, report)

    def _run(self, job: Job, ranges: Sequence[Range], report: Report) -> None:
        count, checked = self._count(), time.monotonic()
        tasks, payload = TaskSplitter(ranges, count), pickle.dumps(job)
        in_flight = self._in_flight = {}
        losses: dict[int, int] = {}  # by the first block of a range
        stale: dict[int, int] = {}
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._job = job
        try:
            while tasks or in_flight:
                while tasks and len(in_flight) < TASKS_PER_WORKER * count:
                    piece = tasks.take()
                    future = self._submit(job, payload, piece, self._limits(count, job))
                    in_flight[future] = piece
                    future.add_done_callback(finished.put)
                if time.monotonic() - checked > CHECK_EVERY:
                    self.check()
                    require_scheduler(self.client)
                    require_current(job)
                    count = tasks.workers = self._count()  # jobs start and end at any time
                    checked = time.monotonic()
                try:
                    future = finished.get(timeout=CHECK_EVERY)
                except queue.Empty:
                    continue
                piece = in_flight.pop(future)
                outcome = self._outcome(job, future, piece, losses, stale)
                tasks.put_back(outcome.again)
                future.release()
                tasks.record(outcome)
                report(outcome)
        finally:
            self._job = None
            for future in in_flight:
                future.cancel()

    def assigned(self) -> dict[Range, str]:
        """Ranges handed out, with the worker of each; '' where no worker has started one."""
        names = {address: self.label(info["name"], address) for address, info in self._infos()}
        return {piece: names.get(address, address) for piece, address in self._addresses().items()}

    def running_blocks(self) -> list[RunningBlock]:
        """Blocks that are being computed, as the workers' last heartbeats report them."""
        job, blocks = self._job, []
        for address, info in self._infos():
            current = info["metrics"].get(METRICS) or {}
            if job is not None and (current.get("step"), current.get("phase")) == (
                job.step,
                job.phase.name,
            ):
                worker = self.label(info["name"], address)
                blocks.append(
                    RunningBlock(
                        current["number"],
                        current["seconds"],
                        worker,
                        memory=current["memory"],
                        parts_done=current["parts_done"],
                        parts_total=current["parts_total"],
                    )
                )
        return blocks

    def workers(self) -> list[str]:
        """Names of the workers that the scheduler knows."""
        return sorted(self.label(info["name"], address) for address, info in self._infos())

    def retired(self) -> set[str]:
        """None: every worker that leaves is lost."""
        return set()

    def waiting(self) -> bool:
        """Never: the workers were there when the executor was opened."""
        return False

    def restart_workers(self) -> None:
        """Have the nannies of the busy workers restart them."""
        busy = sorted({address for address in self._addresses().values() if address})
        if busy:
            self.client.run(kill_worker, workers=busy, nanny=True, on_error="ignore")

    def _infos(self) -> list[tuple[str, dict[str, Any]]]:
        """Addresses of the workers, with what the scheduler knows of each."""
        scheduler = self.client.scheduler_info(n_workers=-1)  # empty once it is lost
        return list(scheduler.get("workers", {}).items())

    def _addresses(self) -> dict[Range, str]:
        """Ranges handed out, with the addresses of their workers; '' where none has started."""
        in_flight = dict(self._in_flight)  # copied in one step: the driver's thread changes it
        processing = self.client.processing().items()
        address_of = {str(key): address for address, keys in processing for key in keys}
        return {piece: address_of.get(str(future.key), "") for future, piece in in_flight.items()}

    def _count(self) -> int:
        return max(1, len(self._infos()))

    def _limits(self, count: int, job: Job) -> Limits:
        share = self.shared_memory // min(count, len(job.phase.grid))
        return Limits(self.timeout, self.memory_per_worker or share)

    def _submit(self, job: Job, payload: bytes, piece: Range, limits: Limits) -> Any:
        number = next(self._numbers)  # a key is never used again, nor by a later driver
        key = (job.step, job.phase.name, *piece, job.fence, number)
        return self.client.submit(
            run_in_child,
            payload,
            *piece,
            self.search_path,
            limits,
            (job.step, job.phase.name),
            job.fence,
            key=key,
            pure=False,
        )

    def _outcome(
        self,
        job: Job,
        future: Any,
        piece: Range,
        losses: dict[int, int],
        stale: dict[int, int],
    ) -> Outcome:
        """Outcome of a task; if its worker was lost, according to the ledger."""
        from distributed import CancelledError, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            outcome: Outcome = future.result()
        except RunHeld as error:  # or its disk shows it the lock of before, for some seconds
            require_current(job)
            if not job.fence or stale.get(piece[0], 0) >= STALE_ALLOWED:
                raise
            outcome = outcome_by_ledger(job, piece)
            logger.info("%s %s: the worker does not see our lock yet (%s)", job.step, piece, error)
            for start, _ in outcome.again:
                stale[start] = stale.get(start, stale.get(piece[0], 0)) + 1
        except (KilledWorker, CancelledError, FutureCancelledError, CommClosedError) as error:
            outcome = outcome_by_ledger(job, piece)
            logger.info("%s %s: worker lost (%s)", job.step, piece, error)
            for start, _ in outcome.again:
                losses[start] = losses.get(start, losses.get(piece[0], 0)) + 1
                if losses[start] > LOSSES_ALLOWED:
                    raise StorageError(
                        f"step '{job.step}', phase '{job.phase.name}', block "
                        f"{job.phase.grid.index(start)}: lost its worker {LOSSES_ALLOWED} times; "
                        f"see the workers' logs for the cause, then run again to resume"
                    ) from error
        return outcome


def kill_worker(dask_worker: Any) -> None:
    """Kill the worker of a nanny, which then starts another; Dask runs this on the nanny.

    Dask's own restart asks the worker to close first, which a frozen one never does.
    """
    os.kill(dask_worker.process.pid, signal.SIGKILL)
