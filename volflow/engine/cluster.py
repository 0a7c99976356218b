"""Workers: a plain loop in this process, a local Dask cluster, or one that runs elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol

import psutil

from volflow.engine.child import Limits, run_in_child
from volflow.engine.job import Job
from volflow.engine.ranges import Outcome, contiguous, job_path, recorded_failures, run_range
from volflow.errors import PlanError, StorageError
from volflow.io.ledger import Ledger

TASK_SECONDS = 2.0  # a task costs 3 ms whatever is in it, so it is given seconds of work
AHEAD = 4  # slow blocks in a task: the next one is read beside one, but not across tasks
AHEAD_SECONDS = 20.0  # and not for their sake more than this between two reports
WINDOW = 3  # tasks per worker that the scheduler holds
LIVES = 8  # times that a range may lose its worker without any of its blocks done

Report = Callable[[Outcome], None]
Range = tuple[int, int]

logger = logging.getLogger(__name__)


class Crew(Protocol):
    """Whoever does the blocks."""

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do these ranges of a job, reporting what became of each piece of them."""


@dataclass(frozen=True)
class Room:
    """What this machine, or a worker's share of it, has: cores and bytes of memory."""

    cores: int
    memory: int

    @classmethod
    def here(cls) -> Room:
        """The room on this machine, or in the container that this process lives in."""
        memory = psutil.virtual_memory().total
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return cls(len(os.sched_getaffinity(0)), memory)


@dataclass(frozen=True)
class Need:
    """What a pass needs: bytes for each of its blocks, and how many there are."""

    memory: int
    blocks: int


class Pieces:
    """Ranges cut into pieces that take about `TASK_SECONDS`, as measured so far."""

    def __init__(self, todo: Sequence[Range], workers: int) -> None:
        self.todo, self.workers = deque(todo), workers
        self.left = sum(stop - start for start, stop in todo)
        self.per_block = 0.0
        self.first = max(1, min(8, self.left // (workers * 16)))

    def __bool__(self) -> bool:
        return bool(self.todo)

    def measured(self, outcome: Outcome) -> None:
        """Learn from what a piece took."""
        if outcome.done:
            seconds = max(outcome.seconds / outcome.done, 1e-6)
            self.per_block = (self.per_block + seconds) / 2 if self.per_block else seconds

    def take(self) -> Range:
        """The next piece."""
        size = self.first
        if self.per_block:
            fair = -(-self.left // (2 * self.workers))  # the last pieces end together
            slow = min(AHEAD, int(AHEAD_SECONDS / self.per_block))
            size = max(1, min(max(int(TASK_SECONDS / self.per_block), slow), fair))
        start, stop = self.todo.popleft()
        if stop - start > size:
            self.todo.appendleft((start + size, stop))
            stop = start + size
        self.left -= stop - start
        return start, stop

    def give_back(self, pieces: Sequence[Range]) -> None:
        """Put ranges back that have to be done again."""
        self.todo.extend(pieces)
        self.left += sum(stop - start for start, stop in pieces)


class Inline:
    """A plain loop in this process: the debugger's door."""

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do the ranges one after another."""
        pieces = Pieces(todo, 1)
        while pieces:
            outcome = run_range(job, *pieces.take())
            pieces.measured(outcome)
            report(outcome)


class Workers:
    """Dask workers, each with a child process; a bounded window of tasks in flight.

    `memory` bytes are shared by the children that are at work: a pass of one node, the root of a
    reduction, may use all of it. 0 is no limit.
    """

    def __init__(
        self, client: Any, search_path: tuple[str, ...], timeout: float, memory: int
    ) -> None:
        self.client, self.search_path = client, search_path
        self.timeout, self.memory = timeout, memory

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Spread the ranges over the workers; what a lost worker left is done again."""
        from distributed import as_completed

        count = max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        pieces, payload = Pieces(todo, count), pickle.dumps(job)
        limits = Limits(self.timeout, self.memory // min(count, len(job.sweep.grid)))
        inside: dict[Any, Range] = {}
        lives: dict[int, int] = {}
        finished = as_completed()
        try:
            while pieces or inside:
                while pieces and len(inside) < WINDOW * count:
                    piece = pieces.take()
                    future = self._submit(job, payload, piece, limits, lives)
                    inside[future] = piece
                    finished.add(future)
                future = next(finished)
                piece = inside.pop(future)
                outcome = self._outcome(job, future, piece, pieces, lives)
                future.release()
                pieces.measured(outcome)
                report(outcome)
        finally:
            for future in inside:
                future.cancel()

    def _submit(
        self, job: Job, payload: bytes, piece: Range, limits: Limits, lives: dict[int, int]
    ) -> Any:
        key = (job.step, job.sweep.name, *piece, lives.get(piece[0], 0))
        return self.client.submit(
            run_in_child, payload, *piece, self.search_path, limits, key=key, pure=False
        )

    def _outcome(
        self, job: Job, future: Any, piece: Range, pieces: Pieces, lives: dict[int, int]
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
                        f"{job.sweep.grid.index(start)} of pass '{job.sweep.name}'; the "
                        f"workers' logs tell why. Run again to resume"
                    ) from error
            pieces.give_back(missing)
        return outcome


def what_became_of(job: Job, piece: Range) -> tuple[Outcome, list[Range]]:
    """Outcome of a range by the ledger alone, and the ranges of it that nobody finished."""
    start, stop = piece
    failures = recorded_failures(job, start, stop)
    settled = {job.sweep.grid.number(failure.index) for failure in failures}
    done = 0
    for a, b in Ledger(job.run).done(job_path(job)):
        inside = range(max(a, start), min(b, stop))
        done += len(inside)
        settled.update(inside)
    missing = [number for number in range(start, stop) if number not in settled]
    return Outcome(done=done, failures=failures), list(contiguous(missing))


@contextlib.contextmanager
def connect(
    cluster: str,
    *,
    needs: Sequence[Need] = (),
    workers: int | None = None,
    search_path: tuple[str, ...] = (),
    timeout: float = 0.0,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Crew]:
    """Whoever does the blocks, for as long as the context lasts.

    Parameters
    ----------
    cluster : str
        `none` (this process), `local` (one process per core), or `tcp://HOST:PORT` of a Dask
        scheduler that runs.
    needs : sequence of Need
        What the passes to be run are expected to need; bounds the number of local workers.
    workers : int, optional
        Number of local workers; default: as many as cores and memory allow.
    search_path : tuple of str
        Folders of the user's own stages.
    timeout : float
        Seconds that a block may take; 0 is no limit.
    note : callable
        Told the dashboard's address.

    Raises
    ------
    PlanError
        If there is no such cluster.
    """
    if cluster == "none":
        yield Inline()
    elif cluster == "local":
        room = Room.here()
        with _local(crowd(room, needs, workers)) as client:
            note(f"dashboard {client.dashboard_link}")
            yield Workers(client, search_path, timeout, room.memory * 9 // 10)
    elif "://" in cluster:
        from distributed import Client

        with Client(cluster, timeout=30) as client:
            note(f"dashboard {client.dashboard_link}")
            yield Workers(client, search_path, timeout, 0)
    else:
        raise PlanError(
            f"there is no cluster '{cluster}' (known: none, local, or the address of a Dask "
            f"scheduler such as tcp://127.0.0.1:8786)"
        )


def crowd(room: Room, needs: Sequence[Need], workers: int | None = None) -> int:
    """How many local workers there are: one per core, fewer where blocks need much memory."""
    if workers:
        return workers
    count = room.cores
    while count > 1 and any(
        need.memory * min(count, need.blocks) > room.memory * 9 // 10 for need in needs
    ):
        count -= 1
    return max(1, count)


@contextlib.contextmanager
def _local(count: int) -> Iterator[Any]:
    """A client of a cluster of this many workers on this machine."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,  # the ledger knows what is left
        "distributed.scheduler.work-stealing": False,
        "distributed.worker.daemon": True,
        "distributed.admin.log-format": "%(asctime)s %(name)s %(levelname)s %(message)s",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="volflow-"))
        with _deaf_to_interrupts():
            hosts = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the child's memory is watched by its worker
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    local_directory=scratch,
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(Client(hosts))
        yield client


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block SIGINT for the threads and processes that are started here, for good.

    A terminal sends Ctrl-C to every process of a run. The driver alone answers it, once this
    context is left; the workers would die of it with tracebacks, before it could end them.
    """
    resource_tracker.ensure_running()  # it unblocks SIGINT where it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
