"""Executor of Slurm pools: each is a Dask cluster of its own, open while steps need it."""

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
from volflow.engine.executors.base import (
    Executor,
    ExecutorRequest,
    Range,
    Report,
    RunningBlock,
)
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.local import dashboard_note
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.slurm.job_replacement import JobReplacer
from volflow.engine.executors.slurm.jobs import job_name, slurm_cluster
from volflow.engine.executors.slurm.preflight import preflight_problems
from volflow.engine.executors.slurm.run_folders import RunFolders
from volflow.engine.executors.slurm.worker_names import WorkerNames
from volflow.engine.job import Job

__all__ = ["SlurmExecutor", "open_executor", "preflight_problems"]

FIRST_NOTE_AFTER = 10.0  # seconds without workers
NOTE_EVERY = 60.0  # seconds between two notes that a pool has no workers

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_executor(profile: Profile, request: ExecutorRequest) -> Iterator[Executor]:
    """Prepare keys and logs; a pool is opened with the first block that needs it."""
    with SlurmExecutor(profile, request) as executor:
        yield executor


class SlurmExecutor:
    """Several clusters; the pool that a step requests runs it.

    A pool is opened when the first block of a step that needs it is to run, and closed when no
    later step needs it, so that a run holds no GPU that it is done with.
    """

    def __init__(self, profile: Profile, request: ExecutorRequest) -> None:
        self.profile, self.request = profile, request
        self.folders = RunFolders.of(profile, request.run)
        self._executors: dict[str, DaskExecutor] = {}
        self._names: dict[str, WorkerNames] = {}
        self._retired: frozenset[str] = frozenset()
        self._open: dict[str, contextlib.ExitStack] = {}
        self._active: DaskExecutor | None = None
        self._pool = ""  # active, or being opened
        self._stack = contextlib.ExitStack()
        self._security: object = None

    def __enter__(self) -> SlurmExecutor:
        self._stack.enter_context(termination_interrupts())
        shared = self.folders.shared
        self._security = self._stack.enter_context(tls.security_in(shared, self.profile.tls))
        self.folders.logs.mkdir(parents=True, exist_ok=True)
        self.request.notify(f"the workers' logs are in {self.folders.logs}")
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

    def run(self, job: Job, ranges: Sequence[Range], report: Report) -> None:
        """Run the ranges in the pool of the job's step."""
        self._close_unneeded(job.step)
        requirements = self.request.requirements
        requested = next((each.pool for each in requirements if each.step == job.step), "")
        self._pool = self.profile.pool_of(requested)
        self._active = self._executor(self._pool)
        try:
            self._active.run(job, ranges, report)
        finally:
            self._active = None

    def assigned(self) -> dict[Range, str]:
        """Ranges handed out, with the worker of each; '' where no worker has started one."""
        active = self._active
        return active.assigned() if active else {}

    def running_blocks(self) -> list[RunningBlock]:
        """Blocks that are being computed, as the workers' last heartbeats report them."""
        active = self._active
        return active.running_blocks() if active else []

    def workers(self) -> list[str]:
        """Workers of all open pools."""
        return [label for names in list(self._names.values()) for label in names.present()]

    def retired(self) -> set[str]:
        """Workers that left as planned: their lifetime ended, or their pool was closed."""
        left = [names.retired for names in list(self._names.values())]
        return set(self._retired).union(*left)

    def waiting(self) -> bool:
        """Whether the active pool has no workers: its jobs are in Slurm's queue, or starting."""
        names = self._names.get(self._pool)
        return names is None or not names.present()

    def restart_workers(self) -> None:
        """Restart the workers that are running blocks."""
        active = self._active
        if active:
            active.restart_workers()

    def _close_unneeded(self, step: str) -> None:
        """Close the pools that neither this step nor a later one needs."""
        requirements = self.request.requirements
        steps = [each.step for each in requirements]
        later = requirements[steps.index(step) :] if step in steps else requirements
        needed = {self.profile.pool_of(each.pool) for each in later}
        for name in sorted(set(self._open) - needed):
            self._close(name)
            self.request.notify(f"pool '{name}': closed; no later step needs it")

    def _close(self, name: str) -> None:
        self._executors.pop(name, None)
        if name in self._names:
            self._retired |= self._names[name].close()
            del self._names[name]
        try:
            self._open.pop(name).close()
        except Exception as error:  # its blocks are done, so the run does not fail of it
            logger.warning("pool '%s' did not close cleanly: %s", name, error)
            cancel_jobs(job_name(name, self.folders.run))

    def _executor(self, name: str) -> DaskExecutor:
        if name not in self._executors:
            self._executors[name] = self._opened(name)
        return self._executors[name]

    def _opened(self, name: str) -> DaskExecutor:
        """Executor of a pool, once it has a worker."""
        from distributed import Client

        pool, request = self.profile.pools[name], self.request
        cancel_jobs(job_name(name, self.folders.run))  # of a driver that was killed
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(
                slurm_cluster(name, self.profile, self.folders, self._security)
            )
            client = stack.enter_context(Client(cluster))
            replacer = JobReplacer(cluster, name, pool.jobs, self.folders.logs)
            stack.callback(replacer.stop)
            request.notify(f"pool '{name}': {dashboard_note(client)}")
            names = self._names[name] = WorkerNames(cluster)
            names.follow()
            replacer.start()
            self._open[name] = stack.pop_all()
        check = PoolCheck(replacer, request.notify)
        while not check.worker_count():
            check()
            time.sleep(0.2)
        return DaskExecutor(
            client,
            request.search_path,
            request.timeout,
            memory_per_worker=pool.memory_for_blocks,
            check=check,
            label=lambda _, address: names.label(address),
        )


class PoolCheck:
    """Recurring check whether a pool has workers; notifies the user while it has none."""

    def __init__(self, replacer: JobReplacer, notify: Callable[[str], None]) -> None:
        self.replacer, self.notify = replacer, notify
        self.due = time.monotonic() + FIRST_NOTE_AFTER

    def worker_count(self) -> int:
        """Number of workers that have joined."""
        return len(self.replacer.cluster.scheduler.workers)

    def __call__(self) -> None:
        """Raise the reason why the pool will have no workers; notify if it has none yet."""
        self.replacer.check()
        if not self.worker_count() and time.monotonic() > self.due:
            jobs = f"; {self.replacer.queue}" if self.replacer.queue else ""
            self.notify(f"pool '{self.replacer.pool}' has no workers yet{jobs}")
            self.due = time.monotonic() + NOTE_EVERY


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Make SIGTERM interrupt this process as Ctrl-C does, so that it ends its jobs.

    `scancel` sends SIGTERM to a driver that is a job itself. Otherwise its running jobs would end
    only after a minute, and those in the queue would stay there.
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
    """Cancel all jobs of this user that have a name."""
    program = shutil.which("scancel")
    if program is None:
        return
    command = [program, f"--user={os.getuid()}", f"--name={name}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        logger.info("scancel: %s", done.stderr.strip())
