"""Dask workers on this machine, one process each: `--cluster local`."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any

from volflow.engine.executors.base import (
    Executor,
    ExecutorRequest,
    MachineResources,
    worker_count,
)
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.dask_restart import PATIENT, replacer
from volflow.engine.executors.ports import dashboard_problems
from volflow.engine.executors.profile import Profile
from volflow.engine.executors.scratch import scratch
from volflow.engine.job import Plan

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the ledger knows which blocks are left
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.daemon": True,
    "distributed.admin.log-format": "%(asctime)s %(name)s %(levelname)s %(message)s",
}
"""Dask settings of every scheduler that volflow starts."""


@contextlib.contextmanager
def open_executor(profile: Profile, request: ExecutorRequest) -> Iterator[Executor]:
    """Start workers on this machine, and a Dask scheduler in this process."""
    machine = MachineResources.here()
    count = worker_count(machine, request.requirements, request.workers)
    with local_cluster(count, profile.dashboard or 0) as client:
        yield executor_of(client, request)


def executor_of(client: Any, request: ExecutorRequest) -> DaskExecutor:
    """Executor of workers on this machine, which share its memory."""
    request.notify(dashboard_note(client))
    return DaskExecutor(
        client,
        request.search_path,
        request.timeout,
        shared_memory=MachineResources.here().memory_for_blocks,
        check=replacer(client.cluster),
    )


def dashboard_note(client: Any) -> str:
    """Line with the address of the dashboard, and where it shows the memory of blocks."""
    return (
        f"dashboard {client.dashboard_link} (blocks run in child processes: their memory is "
        f"'block_memory' on the page Workers)"
    )


def preflight_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """Problems of the dashboard's port."""
    yield from dashboard_problems(profile)


@contextlib.contextmanager
def local_cluster(count: int, dashboard: int = 0) -> Iterator[Any]:
    """Start a cluster of `count` workers on this machine, and yield a client of it.

    Parameters
    ----------
    count : int
    dashboard : int
        Port of the dashboard on 127.0.0.1; 0: any free one.
    """
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch())
        settings = {**SETTINGS, **PATIENT, "temporary-directory": folder}
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(hidden_script())
        with interrupts_blocked():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,  # the worker limits the memory of its child process
                    host="127.0.0.1",
                    dashboard_address=f"127.0.0.1:{dashboard}",
                    scheduler_kwargs={"dashboard": False},  # not yet
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                )
            )
            _load_dashboard_on_request(cluster.scheduler)
            client = stack.enter_context(Client(cluster))
        yield client


@contextlib.contextmanager
def hidden_script() -> Iterator[None]:
    """Keep processes started here from importing the script that is running.

    They would run it again, down to the call that starts them, unless the call is guarded by
    `if __name__ == "__main__"`; and they need nothing of it.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT for good in the threads and processes started here.

    A terminal sends Ctrl-C to every process of a run. Only the driver answers it, once this
    context is left; the workers would die of it with tracebacks before the driver could end them.
    """
    resource_tracker.ensure_running()  # it unblocks SIGINT in the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _load_dashboard_on_request(scheduler: Any) -> None:
    """Have a scheduler without a dashboard load it at the first request of one of its pages.

    Importing bokeh and building the pages takes a second, and most runs are not looked at. The web
    server, and so the address of the dashboard, is there from the beginning.
    """
    from tornado.web import Application

    class OnRequest(Application):
        """Asked for every page that the scheduler's own routes do not have."""

        def find_handler(self, request: Any, **options: Any) -> Any:
            from distributed.dashboard.scheduler import connect

            application = scheduler.http_application
            if self in application.applications:
                application.applications.remove(self)
                connect(application, scheduler.http_server, scheduler)
            return application.find_handler(request, **options)

    scheduler.http_application.add_application(OnRequest())
