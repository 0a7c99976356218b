"""What a worker does as it starts in a job: it takes the GPU that is its own.

Dask loads this module (`--preload`) in each worker, before any block is done.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from typing import Any

PER_JOB = "VOLFLOW_PER_JOB"
"""Environment variable: how many workers share a job."""


def take_gpu(name: str, environment: MutableMapping[str, str]) -> None:
    """Leave a worker one of the GPUs that its job was given.

    Parameters
    ----------
    name : str
        Of the worker; where several share a job, its number among them stands behind a hyphen.
    environment : mapping
        `CUDA_VISIBLE_DEVICES` is changed where several workers share what it lists.
    """
    gpus = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    number = re.search(r"-(\d+)$", name)
    if number and gpus and int(environment.get(PER_JOB, "1")) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[int(number.group(1)) % len(gpus)]


def dask_setup(worker: Any) -> None:
    """Dask's way in."""
    take_gpu(str(worker.name), os.environ)
