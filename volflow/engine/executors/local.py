"""Dask workers on this machine."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any

from volflow.engine.executors.dask_restart import PATIENT
from volflow.engine.executors.scratch import scratch

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
        settings = {**SETTINGS, **PATIENT, "temporary-directory": folder}
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(hidden_script())
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
def hidden_script() -> Iterator[None]:
    """Processes that are started in here do not import the script that is running.

    They would run it again, down to the call that starts them, unless it stood under
    `if __name__ == "__main__"`; and nothing of it is of use to them.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


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
