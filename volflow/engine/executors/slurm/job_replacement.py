"""Keeps the jobs of a pool going: those that Slurm no longer has are replaced.

`scale` of dask-jobqueue never replaces a job, `adapt` only one whose worker had joined, and
neither one of several workers. Slurm is asked instead, whatever a job died of: a node that is
down, a walltime, `scancel`, a worker that could not start.
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

EVERY = 3.0  # seconds between two questions to Slurm
AT_ONCE = 20  # jobs that are submitted between two questions
STILLBORN = 3  # jobs in a row that end before a worker came of them, with none at work
REFUSED = 20  # times in a row that sbatch may fail, with no worker at work
TAIL = 12  # lines of a log that a message shows

logger = logging.getLogger(__name__)


class JobReplacer:
    """Holds a pool at its number of jobs.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    pool : str
        Its name.
    jobs : int
        How many jobs there are to be.
    logs : Path
        Folder of the jobs' logs.
    """

    def __init__(self, cluster: Any, pool: str, jobs: int, logs: Path) -> None:
        self.cluster, self.pool, self.jobs, self.logs = cluster, pool, jobs, logs
        self.replaced = 0
        """How many jobs took the place of another one."""
        self.trouble = ""
        """Why there will be no workers; empty if there may be."""
        self.waiting = ""
        """What Slurm says of the jobs that wait, and how many have begun."""
        self._born: set[str] = set()
        self._stillborn = self._refused = 0
        self._stop = threading.Event()
        self._task: Any = None

    def start(self) -> None:
        """Submit the jobs, and look after them until `stop`."""
        self.cluster.loop.add_callback(self._begin)

    def stop(self) -> None:
        """No job is submitted any more; what was under way is waited for."""
        self._stop.set()
        if self._task is not None:
            self.cluster.sync(self._end)

    def check(self) -> None:
        """Raise what keeps the pool from having workers.

        Raises
        ------
        ClusterError
            If something does.
        """
        if self.trouble:
            raise ClusterError(f"pool '{self.pool}': {self.trouble}\nlogs: {self.logs}")

    async def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._keep())

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                await self._look()
                await self._submit()
            except Exception as error:
                logger.warning("pool '%s': %s: %s", self.pool, type(error).__name__, error)
            await asyncio.sleep(EVERY)

    async def _look(self) -> None:
        """Forget the jobs that Slurm no longer has; the scheduler forgets their workers."""
        asked = dict(self.cluster.workers)
        states = await self._states()
        if states is None:
            return  # Slurm did not answer; nothing is known
        self.waiting = said_of(states)
        for name, job in asked.items():
            workers = self._workers_of(name)
            if workers:
                self._born.add(job.job_id)
                self._stillborn = 0
            if job.job_id in states or self.cluster.workers.get(name) is not job:
                continue
            for worker in workers:  # a node that is down says no good-bye
                await self.cluster.scheduler.remove_worker(
                    worker.address, stimulus_id=f"volflow-job-gone-{job.job_id}"
                )
            del self.cluster.workers[name]
            await job.close()
            if job.job_id is None:
                continue
            self.replaced += 1
            logger.info("pool '%s': job %s is gone", self.pool, job.job_id)
            if job.job_id not in self._born:
                self._stillborn += 1
                self._despair(job.job_id)

    async def _submit(self) -> None:
        missing = self.jobs - len(self.cluster.worker_spec)
        for _ in range(min(missing, AT_ONCE)):
            self.cluster.worker_spec.update(self.cluster.new_worker_spec())
        if set(self.cluster.worker_spec) == set(self.cluster.workers) or self._stop.is_set():
            return
        try:
            await self.cluster._correct_state()
            self._refused = 0
        except RuntimeError as error:  # sbatch failed; dask-jobqueue quotes it
            self._refused += 1
            said = str(error).partition("stderr:")[2].strip() or str(error)
            logger.info("pool '%s': sbatch: %s", self.pool, said)
            if self._refused >= REFUSED and not self.cluster.scheduler.workers:
                self.trouble = f"sbatch takes no job: {said}"

    def _workers_of(self, name: str) -> list[Any]:
        """What the scheduler knows of the workers of a job."""
        spec = self.cluster.worker_spec.get(name, {})
        names = {f"{name}{suffix}" for suffix in spec.get("group", [""])}
        return [w for w in self.cluster.scheduler.workers.values() if w.name in names]

    def _despair(self, job: str) -> None:
        if self._stillborn < STILLBORN or self.cluster.scheduler.workers:
            return
        self.trouble = (
            f"{self._stillborn} jobs ended before a worker came of them; the log of the last one, "
            f"{job}, says:\n{log_tail(self.logs, job)}"
        )
        self._stop.set()

    async def _states(self) -> dict[str, tuple[str, str]] | None:
        """State and reason of each job of ours that Slurm has; None if it does not answer."""
        name = self.cluster.job_name
        command = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={name}"]
        process = await asyncio.create_subprocess_exec(
            *command,
            "--format=%A|%T|%r",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            logger.info("squeue: %s", error.decode().strip())
            return None
        rows = (line.split("|") for line in out.decode().split("\n") if line.count("|") == 2)
        return {job: (state, reason) for job, state, reason in rows}


def said_of(states: Mapping[str, tuple[str, str]]) -> str:
    """What jobs are at, in words, by their states and reasons; empty if there are none."""
    reasons = Counter(reason for state, reason in states.values() if state == "PENDING")
    begun = sum(state in ("RUNNING", "CONFIGURING") for state, _ in states.values())
    parts = [f"{count} wait ({why})" for why, count in reasons.items()]
    return ", ".join([*parts, f"{begun} begun, workers start"] if begun else parts)


def log_tail(logs: Path, job: str) -> str:
    """The end of what a job said, without the frames of tracebacks."""
    texts = [path.read_text(errors="replace") for path in sorted(logs.glob(f"*-{job}.err"))]
    lines = [line for line in "\n".join(texts).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("volflow: ")]
    said = ours or [line for line in lines if not line.startswith(("  ", "Traceback"))]
    return "\n".join(f"  {line}" for line in said[-TAIL:]) or "  nothing"
