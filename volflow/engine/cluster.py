"""Workers: a plain loop in this process, or Dask workers wherever they run."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol

import psutil

from volflow.engine.child import Limits, run_in_child
from volflow.engine.job import Job
from volflow.engine.profile import Profile, find_profile
from volflow.engine.ranges import Outcome, contiguous, job_path, recorded_failures, run_range
from volflow.engine.scratch import scratch
from volflow.errors import StorageError
from volflow.io.ledger import Ledger

TASK_SECONDS = 2.0  # a task costs 3 ms whatever is in it, so it is given seconds of work
AHEAD = 4  # slow blocks in a task: the next one is read beside one, but not across tasks
AHEAD_SECONDS = 20.0  # and not for their sake more than this between two reports
WINDOW = 3  # tasks per worker that the scheduler holds
LIVES = 8  # times that a range may lose its worker without any of its blocks done
GLANCE = 1.0  # seconds between two looks at who works

Report = Callable[[Outcome], None]
Range = tuple[int, int]

logger = logging.getLogger(__name__)


class Crew(Protocol):
    """Whoever does the blocks."""

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do these ranges of a job, reporting what became of each piece of them."""

    def under_way(self) -> dict[Range, str]:
        """The ranges that are handed out, and to which worker; asked from another thread."""

    def workers(self) -> list[str]:
        """The names of the workers there are; asked from another thread."""

    def restart(self) -> None:
        """Start the workers anew that are at work; their ranges are handed out again."""


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
    """What a pass needs: bytes for each of its blocks, how many there are, and which workers."""

    memory: int
    blocks: int
    step: str = ""
    pool: str = ""
    """Name of the pool of the profile that does the step."""


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

    def __init__(self) -> None:
        self._piece: Range | None = None

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Do the ranges one after another."""
        pieces = Pieces(todo, 1)
        while pieces:
            self._piece = pieces.take()
            outcome = run_range(job, *self._piece)
            self._piece = None
            pieces.measured(outcome)
            report(outcome)

    def under_way(self) -> dict[Range, str]:
        """The range that is being done."""
        piece = self._piece
        return {} if piece is None else {piece: "this process"}

    def workers(self) -> list[str]:
        """None beside this process."""
        return []

    def restart(self) -> None:
        """Nothing that could be restarted."""


class Workers:
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
        self._inside: dict[Any, Range] = {}

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Spread the ranges over the workers; what a lost worker left is done again."""
        count, looked = self._count(), time.monotonic()
        pieces, payload = Pieces(todo, count), pickle.dumps(job)
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

    def restart(self) -> None:
        """Have the nannies of the workers at work start them anew."""
        busy = sorted({worker for worker in self.under_way().values() if worker})
        if busy:
            self.client.run(kill_worker, workers=busy, nanny=True, on_error="ignore")

    def _count(self) -> int:
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def _limits(self, count: int, job: Job) -> Limits:
        shared = self.memory // min(count, len(job.sweep.grid))
        return Limits(self.timeout, self.each or shared)

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
            outcome.again = missing
            pieces.give_back(missing)
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
    settled = {job.sweep.grid.number(failure.index) for failure in failures}
    done = 0
    for a, b in Ledger(job.run).done(job_path(job)):
        inside = range(max(a, start), min(b, stop))
        done += len(inside)
        settled.update(inside)
    missing = [number for number in range(start, stop) if number not in settled]
    outcome = Outcome(done=done, failures=failures, start=start, stop=stop)
    return outcome, list(contiguous(missing))


@contextlib.contextmanager
def connect(
    cluster: str | Profile,
    *,
    run: str = "",
    needs: Sequence[Need] = (),
    workers: int | None = None,
    search_path: tuple[str, ...] = (),
    timeout: float = 0.0,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Crew]:
    """Whoever does the blocks, for as long as the context lasts.

    Parameters
    ----------
    cluster : str or Profile
        `none` (this process), `local` (one process per core), another shipped profile, a profile
        file, or the address of a Dask scheduler that runs.
    run : str
        Address of the run: workers on other machines have to see it.
    needs : sequence of Need
        What the passes to be run are expected to need, in their order; bounds the number of local
        workers, and says which pools are opened, and until when.
    workers : int, optional
        Number of local workers; default: as many as cores and memory allow.
    search_path : tuple of str
        Folders of the user's own stages.
    timeout : float
        Seconds that a block may take; 0 is no limit.
    note : callable
        Told the dashboard's address, and what is being waited for.

    Raises
    ------
    PlanError
        If there is no such cluster.
    ClusterError
        If it gives no workers.
    """
    profile = cluster if isinstance(cluster, Profile) else find_profile(cluster)
    workers, timeout = workers or profile.workers, timeout or profile.timeout
    if profile.kind == "none":
        yield Inline()
    elif profile.kind == "local":
        room = Room.here()
        with local_cluster(crowd(room, needs, workers), profile.dashboard or 0) as client:
            note(f"dashboard {client.dashboard_link}")
            yield Workers(client, search_path, timeout, room.memory * 9 // 10)
    elif profile.kind == "cuda":
        from volflow.engine.gpus import gpu_cluster

        room = Room.here()
        with gpu_cluster(profile, crowd(room, needs, workers), workers, note) as client:
            note(f"dashboard {client.dashboard_link}")
            yield Workers(client, search_path, timeout, room.memory * 9 // 10)
    elif profile.kind == "slurm":
        from volflow.engine.pools import Pools

        with Pools(profile, run, needs, search_path, timeout, note) as pools:
            yield pools
    else:
        from volflow.engine.elsewhere import scheduler_at

        with scheduler_at(profile, run, note) as client:
            note(f"dashboard {client.dashboard_link}")
            yield Workers(client, search_path, timeout, 0)


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


SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the ledger knows what is left
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.daemon": True,
    "distributed.admin.log-format": "%(asctime)s %(name)s %(levelname)s %(message)s",
}
"""What a scheduler of ours is told."""


@contextlib.contextmanager
def local_cluster(count: int, dashboard: int = 0) -> Iterator[Any]:
    """A client of a cluster of this many workers on this machine."""
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        stack.enter_context(dask.config.set({**SETTINGS, "temporary-directory": folder}))
        with deaf_to_interrupts():
            hosts = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the child's memory is watched by its worker
                    host="127.0.0.1",
                    dashboard_address=f"127.0.0.1:{dashboard}",
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(Client(hosts))
        yield client


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
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
