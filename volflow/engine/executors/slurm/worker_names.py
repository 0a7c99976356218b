"""Names of a pool's workers with their Slurm jobs, and which of them left as planned."""

from __future__ import annotations

from typing import Any

LIFETIME_ENDED = "worker-close-gracefully"
"""Start of Dask's stimulus for the removal of a worker whose lifetime has ended."""


class WorkerNames:
    """Workers of a pool; updated by the scheduler's thread, read by others.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.retired: set[str] = set()
        """Workers that left because their lifetime ended, and so are not lost."""
        self._present: dict[str, str] = {}

    def follow(self) -> None:
        """Start to record workers that join and leave."""
        self.cluster.sync(self._follow)

    def present(self) -> list[str]:
        """Labels of the workers."""
        return sorted(self._present.copy().values())

    def label(self, address: str) -> str:
        """Name and job of the worker at an address; the address if the worker is unknown."""
        return self._present.get(address, address)

    def close(self) -> set[str]:
        """Workers that left as planned, which those still there do now."""
        return self.retired | set(self.present())

    def add(self, address: str, name: str) -> None:
        """Record that a worker has joined."""
        self._present[address] = self._with_job(name)

    def remove(self, address: str, stimulus: str) -> None:
        """Record that a worker has left; `stimulus` is Dask's reason."""
        label = self._present.pop(address, "")
        if label and stimulus.startswith(LIFETIME_ENDED):
            self.retired.add(label)

    def _with_job(self, name: str) -> str:
        """Name of a worker, and the job that its log is named after."""
        base = name if name in self.cluster.worker_spec else name.rpartition("-")[0]
        # Among all jobs ever made: a new one may start before Dask lists it among its workers.
        jobs = [job for job in self.cluster._created if str(job.name) == base and job.job_id]
        newest = max((int(job.job_id) for job in jobs), default=0)
        return f"{name} (job {newest})" if newest else name

    async def _follow(self) -> None:
        from distributed.diagnostics.plugin import SchedulerPlugin

        names = self

        class Follower(SchedulerPlugin):
            def add_worker(self, scheduler: Any, worker: str) -> None:
                names.add(worker, str(scheduler.workers[worker].name))

            def remove_worker(
                self, scheduler: Any, worker: str, *, stimulus_id: str, **_: Any
            ) -> None:
                names.remove(worker, stimulus_id)

        self.cluster.scheduler.add_plugin(Follower(), name="volflow-worker-names")
