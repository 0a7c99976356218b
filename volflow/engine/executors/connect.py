"""Workers for a run, by name or by profile, for as long as they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from volflow.engine.executors.base import (
    Executor,
    InProcessExecutor,
    MachineResources,
    PhaseRequirement,
    worker_count,
)
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.dask_restart import replaces_lost
from volflow.engine.executors.local import local_cluster
from volflow.engine.executors.profile import Profile, find_profile


@contextlib.contextmanager
def connect(
    cluster: str | Profile,
    *,
    run: str = "",
    needs: Sequence[PhaseRequirement] = (),
    workers: int | None = None,
    search_path: tuple[str, ...] = (),
    timeout: float = 0.0,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Executor]:
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
        yield InProcessExecutor()
    elif profile.kind == "local":
        room = MachineResources.here()
        with local_cluster(worker_count(room, needs, workers), profile.dashboard or 0) as client:
            note(f"dashboard {client.dashboard_link}")
            memory = room.memory * 9 // 10
            glance = replaces_lost(client.cluster)
            yield DaskExecutor(client, search_path, timeout, memory, glance=glance)
    elif profile.kind == "cuda":
        from volflow.engine.executors.cuda import gpu_cluster

        room = MachineResources.here()
        with gpu_cluster(profile, worker_count(room, needs, workers), workers, note) as client:
            note(f"dashboard {client.dashboard_link}")
            memory = room.memory * 9 // 10
            glance = replaces_lost(client.cluster)
            yield DaskExecutor(client, search_path, timeout, memory, glance=glance)
    elif profile.kind == "slurm":
        from volflow.engine.executors.slurm.pools import SlurmExecutor

        with SlurmExecutor(profile, run, needs, search_path, timeout, note) as pools:
            yield pools
    else:
        from volflow.engine.executors.remote_scheduler import scheduler_at

        with scheduler_at(profile, run, note) as client:
            note(f"dashboard {client.dashboard_link}")
            yield DaskExecutor(client, search_path, timeout, 0)
