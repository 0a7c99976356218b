"""Pools: kinds of workers, each a cluster of its own, open while steps need it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType

from volflow.engine.executors import tls
from volflow.engine.executors.base import PhaseRequirement, Range, Report
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.slurm.job_replacement import JobReplacer
from volflow.engine.executors.slurm.jobs import Place, job_name, slurm_cluster
from volflow.engine.executors.slurm.worker_names import WorkerNames
from volflow.engine.job import Job

SAY_AGAIN = 60.0  # seconds between two notes that workers are being waited for

logger = logging.getLogger(__name__)


def pool_of(profile: Profile, wanted: str) -> str:
    """The pool that does a step: the one it asks for, or the first where there is no such one.

    Whether a step asks for a pool that is missing is found out before, by `preflight`.
    """
    return wanted if wanted in profile.pools else next(iter(profile.pools))


class SlurmExecutor:
    """A crew of several clusters: a step is done by the pool that it asks for.

    A pool is opened when the first block of a step that wants it is to be done, and closed when no
    later step wants it, so that no GPU is held by a run that is done with it.
    """

    def __init__(
        self,
        profile: Profile,
        run: str,
        needs: Sequence[PhaseRequirement],
        search_path: tuple[str, ...],
        timeout: float,
        note: Callable[[str], None],
    ) -> None:
        self.profile, self.needs = profile, list(needs)
        self.search_path, self.timeout, self.note = search_path, timeout, note
        self.place = Place.of(profile, run)
        self._crews: dict[str, DaskExecutor] = {}
        self._rosters: dict[str, WorkerNames] = {}
        self._dismissed: frozenset[str] = frozenset()
        self._open: dict[str, contextlib.ExitStack] = {}
        self._at_work: DaskExecutor | None = None
        self._pool = ""  # at work, or being opened
        self._stack = contextlib.ExitStack()
        self._security: object = None

    def __enter__(self) -> SlurmExecutor:
        self._stack.enter_context(termination_interrupts())
        folder = self.place.shared
        self._security = self._stack.enter_context(tls.security_in(folder, self.profile.tls))
        self.place.logs.mkdir(parents=True, exist_ok=True)
        self.note(f"the workers' logs are in {self.place.logs}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for name in list(self._open):
                self._close(name)
        finally:
            self._stack.close()

    def run(self, job: Job, todo: Sequence[Range], report: Report) -> None:
        """Have the pool of the job's step do the ranges."""
        self._close_unneeded(job.step)
        wanted = next((need.pool for need in self.needs if need.step == job.step), "")
        self._pool = pool_of(self.profile, wanted)
        self._at_work = self._executor(self._pool)
        try:
            self._at_work.run(job, todo, report)
        finally:
            self._at_work = None

    def under_way(self) -> dict[Range, str]:
        """The ranges that are handed out, and to which worker; asked from another thread."""
        executor, rosters = self._at_work, list(self._rosters.values())
        found = executor.under_way() if executor else {}
        for roster in rosters:
            found = {piece: roster.label(worker) for piece, worker in found.items()}
        return found

    def workers(self) -> list[str]:
        """The workers of all pools that are open; asked from another thread."""
        return [name for roster in list(self._rosters.values()) for name in roster.present()]

    def dismissed(self) -> set[str]:
        """The workers that left in order: their time was over, or their pool was closed."""
        left = [roster.left for roster in list(self._rosters.values())]
        return set(self._dismissed).union(*left)

    def waits(self) -> bool:
        """Whether the pool at work has nobody: its jobs are in Slurm's queue, or just begin."""
        roster = self._rosters.get(self._pool)
        return roster is None or not roster.present()

    def restart(self) -> None:
        """Start the workers anew that are at work."""
        executor = self._at_work
        if executor:
            executor.restart()

    def _close_unneeded(self, step: str) -> None:
        """Close the pools that neither this step nor a later one wants."""
        steps = [need.step for need in self.needs]
        later = self.needs[steps.index(step) :] if step in steps else self.needs
        wanted = {pool_of(self.profile, need.pool) for need in later}
        for name in sorted(set(self._open) - wanted):
            self._close(name)
            self.note(f"pool '{name}': closed; no later step wants it")

    def _close(self, name: str) -> None:
        self._crews.pop(name, None)
        if name in self._rosters:
            self._dismissed |= self._rosters[name].close()
            del self._rosters[name]
        try:
            self._open.pop(name).close()
        except Exception as error:  # what is done is done: no reason for the run to fail
            logger.warning("pool '%s' did not close in order: %s", name, error)
            cancel_jobs(job_name(name, self.place.run))

    def _executor(self, name: str) -> DaskExecutor:
        if name not in self._crews:
            self._crews[name] = self._opened(name)
        return self._crews[name]

    def _opened(self, name: str) -> DaskExecutor:
        from distributed import Client

        pool = self.profile.pools[name]
        cancel_jobs(job_name(name, self.place.run))  # of a driver that was killed
        with contextlib.ExitStack() as stack:
            hosts = stack.enter_context(
                slurm_cluster(name, self.profile, self.place, self._security)
            )
            client = stack.enter_context(Client(hosts))
            keeper = JobReplacer(hosts, name, pool.jobs, self.place.logs)
            stack.callback(keeper.stop)
            self.note(f"pool '{name}': dashboard {client.dashboard_link}")
            self._rosters[name] = WorkerNames(hosts)
            self._rosters[name].begin()
            keeper.start()
            self._open[name] = stack.pop_all()
        glance = Glance(keeper, client, pool.workers, self.note)
        while not glance.count():
            glance()
            time.sleep(0.2)
        return DaskExecutor(
            client, self.search_path, self.timeout, 0, each=pool.memory * 9 // 10, glance=glance
        )


class Glance:
    """Looks now and then whether a pool has workers, and says what they wait for."""

    def __init__(
        self, keeper: JobReplacer, client: object, wanted: int, note: Callable[[str], None]
    ) -> None:
        self.keeper, self.client, self.wanted, self.note = keeper, client, wanted, note
        self.due = time.monotonic() + 10

    def count(self) -> int:
        """Workers that have joined."""
        return len(self.keeper.cluster.scheduler.workers)

    def __call__(self) -> None:
        """Raise what keeps the pool from having workers; tell if it has none."""
        self.keeper.check()
        if not self.count() and time.monotonic() > self.due:
            jobs = f"; {self.keeper.waiting}" if self.keeper.waiting else ""
            self.note(f"pool '{self.keeper.pool}' has no workers yet{jobs}")
            self.due = time.monotonic() + SAY_AGAIN


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Have SIGTERM interrupt this process as Ctrl-C does, so that it ends its jobs.

    `scancel` sends it to a driver that is a job itself. Without it the jobs would go after a
    minute, and those that wait would stay in the queue.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cancel_jobs(name: str) -> None:
    """End all jobs of this user that have a name."""
    command = shutil.which("scancel")
    if command is None:
        return
    asked = [command, f"--user={os.getuid()}", f"--name={name}"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        logger.info("scancel: %s", done.stderr.strip())
