"""Replace the jobs of a pool that Slurm no longer has.

`scale` of dask-jobqueue never replaces a job, `adapt` only one whose worker had joined, and neither
replaces a job of several workers. So Slurm is asked instead, whatever ended a job: a node that is
down, the wall time, `scancel`, or a worker that could not start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volflow.errors import ClusterError

CHECK_EVERY = 3.0  # seconds between two questions to Slurm
SUBMITTED_AT_ONCE = 20  # jobs that are submitted between two questions
FAILED_STARTS_ALLOWED = 3  # jobs in a row that end before their worker joins, with none at work
REFUSALS_ALLOWED = 20  # times in a row that sbatch may fail, with no worker at work
LOG_LINES = 12  # lines of a log that a message shows

logger = logging.getLogger(__name__)


class JobReplacer:
    """Keeps the number of a pool's jobs constant.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    pool : str
        Its name.
    jobs : int
        Number of jobs to keep.
    logs : Path
        Folder of the jobs' logs.
    """

    def __init__(self, cluster: Any, pool: str, jobs: int, logs: Path) -> None:
        self.cluster, self.pool, self.jobs, self.logs = cluster, pool, jobs, logs
        self.replaced = 0
        """Number of jobs that ended and were replaced."""
        self.failure = ""
        """Reason why there will be no workers; empty if there may be."""
        self.queue = ""
        """Number of waiting and starting jobs, with Slurm's reasons."""
        self._started: set[str] = set()
        """Jobs whose worker joined."""
        self._failed_starts = self._refusals = 0
        self._stop = threading.Event()
        self._task: Any = None

    def start(self) -> None:
        """Submit the jobs, and replace those that end until `stop`."""
        self.cluster.loop.add_callback(self._start)

    def stop(self) -> None:
        """Submit no more jobs; wait for a submission under way."""
        self._stop.set()
        if self._task is not None:
            self.cluster.sync(self._end)

    def check(self) -> None:
        """Raise the reason why the pool will have no workers, if there is one.

        Raises
        ------
        ClusterError
        """
        if self.failure:
            raise ClusterError(f"pool '{self.pool}': {self.failure}\nlogs: {self.logs}")

    async def _start(self) -> None:
        self._task = asyncio.ensure_future(self._loop())

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                await self._remove_ended()
                await self._submit_missing()
            except Exception as error:
                logger.warning("pool '%s': %s: %s", self.pool, type(error).__name__, error)
            await asyncio.sleep(CHECK_EVERY)

    async def _remove_ended(self) -> None:
        """Forget the jobs that Slurm no longer has, and remove their workers at the scheduler."""
        jobs = dict(self.cluster.workers)
        states = await self._states()
        if states is None:
            return  # Slurm did not answer, so nothing is known
        self.queue = queue_text(states)
        for name, job in jobs.items():
            workers = self._workers_of(name)
            if workers:
                self._started.add(job.job_id)
                self._failed_starts = 0
            if job.job_id in states or self.cluster.workers.get(name) is not job:
                continue
            for worker in workers:  # those on a node that is down did not close
                await self.cluster.scheduler.remove_worker(
                    worker.address, stimulus_id=f"volflow-job-gone-{job.job_id}"
                )
            del self.cluster.workers[name]
            await job.close()
            if job.job_id is None:
                continue
            self.replaced += 1
            logger.info("pool '%s': job %s has ended", self.pool, job.job_id)
            if job.job_id not in self._started:
                self._failed_starts += 1
                self._give_up_if_hopeless(job.job_id)

    async def _submit_missing(self) -> None:
        missing = self.jobs - len(self.cluster.worker_spec)
        for _ in range(min(missing, SUBMITTED_AT_ONCE)):
            self.cluster.worker_spec.update(self.cluster.new_worker_spec())
        if set(self.cluster.worker_spec) == set(self.cluster.workers) or self._stop.is_set():
            return
        try:
            await self.cluster._correct_state()
            self._refusals = 0
        except RuntimeError as error:  # sbatch failed; dask-jobqueue quotes its output
            self._refusals += 1
            output = str(error).partition("stderr:")[2].strip() or str(error)
            logger.info("pool '%s': sbatch: %s", self.pool, output)
            if self._refusals >= REFUSALS_ALLOWED and not self.cluster.scheduler.workers:
                self.failure = f"sbatch accepts no job: {output}"

    def _workers_of(self, name: str) -> list[Any]:
        """State at the scheduler of each worker of a job."""
        spec = self.cluster.worker_spec.get(name, {})
        names = {f"{name}{suffix}" for suffix in spec.get("group", [""])}
        return [w for w in self.cluster.scheduler.workers.values() if w.name in names]

    def _give_up_if_hopeless(self, job: str) -> None:
        if self._failed_starts < FAILED_STARTS_ALLOWED or self.cluster.scheduler.workers:
            return
        self.failure = (
            f"{self._failed_starts} jobs in a row ended before their worker joined; the log of the "
            f"last one, {job}:\n{log_tail(self.logs, job)}"
        )
        self._stop.set()

    async def _states(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of each of this pool's jobs; None if Slurm does not answer."""
        name = self.cluster.job_name
        command = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={name}"]
        process = await asyncio.create_subprocess_exec(
            *command,
            "--format=%A|%T|%r",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, error = await process.communicate()
        except asyncio.CancelledError:  # it has to end before the loop does
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            logger.info("squeue: %s", error.decode().strip())
            return None
        rows = (line.split("|") for line in output.decode().split("\n") if line.count("|") == 2)
        return {job: (state, reason) for job, state, reason in rows}


def queue_text(states: Mapping[str, tuple[str, str]]) -> str:
    """Summary of jobs by their states and reasons: '2 wait (Priority)'; empty without jobs."""
    reasons = Counter(reason for state, reason in states.values() if state == "PENDING")
    running = sum(state in ("RUNNING", "CONFIGURING") for state, _ in states.values())
    parts = [f"{count} wait ({reason})" for reason, count in reasons.items()]
    return ", ".join([*parts, f"{running} running, workers start"] if running else parts)


def log_tail(logs: Path, job: str) -> str:
    """Last lines of a job's log, without the frames of tracebacks."""
    texts = [path.read_text(errors="replace") for path in sorted(logs.glob(f"*-{job}.err"))]
    lines = [line for line in "\n".join(texts).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("volflow: ")]
    shown = own or [line for line in lines if not line.startswith(("  ", "Traceback"))]
    return "\n".join(f"  {line}" for line in shown[-LOG_LINES:]) or "  empty"
