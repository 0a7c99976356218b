"""An executor for a run, by the name of a cluster or by its profile."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from volflow.engine.executors.base import (
    Executor,
    ExecutorModule,
    ExecutorRequest,
    PhaseRequirement,
)
from volflow.engine.executors.profile import Profile, find_profile

MODULES = {
    "none": "in_process",
    "local": "local",
    "cuda": "cuda",
    "slurm": "slurm.pools",
    "address": "remote_scheduler",
}
"""The module of each kind of cluster profile, in this package."""


def executor_module(kind: str) -> ExecutorModule:
    """The module of a kind of cluster profile, imported when it is first asked for."""
    module = importlib.import_module(f"volflow.engine.executors.{MODULES[kind]}")
    return cast(ExecutorModule, module)


@contextlib.contextmanager
def connect(
    cluster: str | Profile,
    *,
    run: str = "",
    requirements: Sequence[PhaseRequirement] = (),
    workers: int | None = None,
    search_path: tuple[str, ...] = (),
    timeout: float = 0.0,
    notify: Callable[[str], None] = lambda text: None,
) -> Iterator[Executor]:
    """Open the executor of a cluster; its workers are ended with the context.

    Parameters
    ----------
    cluster : str or Profile
        `none` (this process), `local` (one worker process per core), another bundled profile, a
        profile file, or the address of a running Dask scheduler.
    run : str
        Address of the run: workers on other machines have to reach it.
    requirements : sequence of PhaseRequirement
        Expected needs of the phases to run, in their order. They limit the number of local
        workers, and determine which pools are opened, and for how long.
    workers : int, optional
        Number of local workers; default: as many as cores and memory allow.
    search_path : tuple of str
        Folders of the user's own stages.
    timeout : float
        Time limit per block in seconds; 0: none.
    notify : callable
        Called with a line for the user: the dashboard's address, what is being waited for.

    Raises
    ------
    PlanError
        If there is no such cluster.
    ClusterError
        If the cluster gives no workers, or workers that cannot run the blocks.
    """
    profile = cluster if isinstance(cluster, Profile) else find_profile(cluster)
    request = ExecutorRequest(
        run=run,
        requirements=tuple(requirements),
        workers=workers or profile.workers,
        search_path=search_path,
        timeout=timeout or profile.timeout,
        notify=notify,
    )
    with executor_module(profile.kind).open_executor(profile, request) as executor:
        yield executor
