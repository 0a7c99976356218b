"""Who works in a pool: each worker by its name and its job, and who of those gone left in order."""

from __future__ import annotations

from typing import Any

LEAVES = "worker-close-gracefully"
"""How Dask's word begins for what takes a worker away whose lifetime has ended."""


class WorkerNames:
    """The workers of a pool; kept by the scheduler's thread, asked from others.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.left: set[str] = set()
        """Those that left because their time was over, not because something befell them."""
        self._present: dict[str, str] = {}

    def begin(self) -> None:
        """Follow who comes and goes."""
        self.cluster.sync(self._follow)

    def present(self) -> list[str]:
        """Who is there."""
        return sorted(self._present.copy().values())

    def label(self, address: str) -> str:
        """The worker at an address, as a message names it; the address of one that is unknown."""
        return self._present.get(address, address)

    def close(self) -> set[str]:
        """Everybody leaves in order, who ever did."""
        return self.left | set(self.present())

    def joins(self, address: str, name: str) -> None:
        """A worker has come."""
        self._present[address] = self._named(name)

    def goes(self, address: str, why: str) -> None:
        """A worker has gone; `why` is Dask's word for what took it away."""
        label = self._present.pop(address, "")
        if label and why.startswith(LEAVES):
            self.left.add(label)

    def _named(self, name: str) -> str:
        """Its name, and the job that its log is called after."""
        base = name if name in self.cluster.worker_spec else name.rpartition("-")[0]
        # All jobs ever made under that name: a new one may start before it is listed as a worker.
        jobs = [job for job in self.cluster._created if str(job.name) == base and job.job_id]
        newest = max((int(job.job_id) for job in jobs), default=0)
        return f"{name} (job {newest})" if newest else name

    async def _follow(self) -> None:
        from distributed.diagnostics.plugin import SchedulerPlugin

        roster = self

        class Follower(SchedulerPlugin):
            def add_worker(self, scheduler: Any, worker: str) -> None:
                roster.joins(worker, str(scheduler.workers[worker].name))

            def remove_worker(
                self, scheduler: Any, worker: str, *, stimulus_id: str, **_: Any
            ) -> None:
                roster.goes(worker, stimulus_id)

        self.cluster.scheduler.add_plugin(Follower(), name="volflow-roster")
