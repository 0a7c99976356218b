"""Dask workers on this machine, one for each of its GPUs: `--cluster cuda`."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from volflow.engine.executors import local
from volflow.engine.executors.base import (
    Executor,
    ExecutorRequest,
    MachineResources,
    worker_count,
)
from volflow.engine.executors.dask_restart import PATIENT
from volflow.engine.executors.ports import dashboard_problems
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def open_executor(profile: Profile, request: ExecutorRequest) -> Iterator[Executor]:
    """Start a worker for each GPU, and a Dask scheduler in this process."""
    count = worker_count(MachineResources.here(), request.requirements, request.workers)
    with gpu_cluster(profile, count, request.workers, request.notify) as client:
        yield local.executor_of(client, request)


def preflight_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """Problems of the dashboard's port."""
    yield from dashboard_problems(profile)


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    torch is not asked: a process that has opened CUDA keeps some of the GPU's memory.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def nearby_cores(gpu: str) -> list[int]:
    """Cores that are directly connected to a GPU; empty if unknown.

    On machines with several sockets a worker is faster on its GPU's socket. dask-cuda (the extra
    `cuda`) knows the cores by NVML; without it, workers may run on all cores.
    """
    try:
        from dask_cuda.utils import get_cpu_affinity
    except ImportError:
        return []
    try:
        cores = get_cpu_affinity(int(gpu) if gpu.isdigit() else gpu)
    except Exception as error:  # of NVML, of many kinds: the cores only make a worker faster
        logger.info("GPU %s: nearby cores unknown: %s: %s", gpu, type(error).__name__, error)
        return []
    return sorted(set(cores) & os.sched_getaffinity(0))


@contextlib.contextmanager
def gpu_cluster(
    profile: Profile, cores: int, workers: int | None, notify: Callable[[str], None]
) -> Iterator[Any]:
    """Start workers on this machine, each of which sees one GPU, and yield a client of them.

    If there are more workers than GPUs, several share one. Without any GPU, `local` workers are
    started, with a warning.

    Parameters
    ----------
    profile : Profile
    cores : int
        Number of workers without a GPU.
    workers : int, optional
        Number of workers with GPUs; default: one for each.
    notify : callable
        Called with the names of the GPUs.
    """
    gpus = visible_gpus()
    if not gpus:
        logger.warning("cluster 'cuda': no GPU on this machine; running on its processors")
        with local.local_cluster(cores, profile.dashboard or 0) as client:
            yield client
        return
    notify(f"GPUs {', '.join(gpus)}")
    count = workers or len(gpus)
    gpu_of_worker = [gpus[number % len(gpus)] for number in range(count)]
    with _gpu_workers(gpu_of_worker, profile.dashboard or 0) as client:
        yield client


@contextlib.contextmanager
def _gpu_workers(gpus: list[str], dashboard: int) -> Iterator[Any]:
    """Start a worker for each of these GPUs, and yield a client of them."""
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    security = Security.temporary()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({**local.SETTINGS, **PATIENT}))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="volflow-"))
        common = {
            "nthreads": 1,
            "memory_limit": 0,
            "host": "127.0.0.1",
            "protocol": "tls://",
            "security": security,
            "local_directory": scratch,
            "silence_logs": logging.CRITICAL,
        }
        workers = {
            number: {"cls": Nanny, "options": {**common, **_options_of(gpu)}}
            for number, gpu in enumerate(gpus)
        }
        scheduler = {
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "protocol": "tls://",
                "security": security,
                "dashboard_address": f"127.0.0.1:{dashboard}",
            },
        }
        with local.interrupts_blocked():
            cluster = stack.enter_context(
                SpecCluster(
                    workers=workers,
                    scheduler=scheduler,
                    security=security,
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(Client(cluster, security=security))
        yield client


def _options_of(gpu: str) -> dict[str, Any]:
    """Options of the nanny whose worker uses a GPU."""
    options: dict[str, Any] = {"env": {"CUDA_VISIBLE_DEVICES": gpu}}
    cores = nearby_cores(gpu)
    if cores:
        from dask_cuda.plugins import CPUAffinity

        options["plugins"] = {CPUAffinity(cores)}
    return options
