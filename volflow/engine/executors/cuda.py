"""One worker for each GPU of this machine."""

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
from volflow.engine.executors.dask_restart import PATIENT
from volflow.engine.executors.profile import Profile

logger = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    torch is not asked: a process that has opened CUDA keeps some of the GPU's memory.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    asking = shutil.which("nvidia-smi")
    if asking is None:
        return []
    command = [asking, "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return found.stdout.split() if found.returncode == 0 else []


@contextlib.contextmanager
def gpu_cluster(
    profile: Profile, cores: int, workers: int | None, note: Callable[[str], None]
) -> Iterator[Any]:
    """A client of workers on this machine, each of which sees one GPU.

    Several share a GPU if more workers are asked for than there are. Without any GPU they are
    `local` workers, and a warning is given.

    Parameters
    ----------
    profile : Profile
    cores : int
        How many workers there are without a GPU.
    workers : int, optional
        How many there are with GPUs; default: one for each.
    note : callable
        Told what is used.
    """
    gpus = visible_gpus()
    if not gpus:
        logger.warning("cluster 'cuda': there is no GPU here; the processors do the work")
        with local.local_cluster(cores, profile.dashboard or 0) as client:
            yield client
        return
    note(f"GPUs {', '.join(gpus)}")
    count = workers or len(gpus)
    with _gpu_workers([gpus[n % len(gpus)] for n in range(count)], profile.dashboard or 0) as hosts:
        yield hosts


@contextlib.contextmanager
def _gpu_workers(gpus: list[str], dashboard: int) -> Iterator[Any]:
    """A client of a worker for each of these GPUs."""
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
        spec = {
            number: {
                "cls": Nanny,
                "options": {**common, "env": {"CUDA_VISIBLE_DEVICES": name}},
            }
            for number, name in enumerate(gpus)
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
        with local.deaf_to_interrupts():
            hosts = stack.enter_context(
                SpecCluster(
                    workers=spec,
                    scheduler=scheduler,
                    security=security,
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(Client(hosts, security=security))
        yield client
