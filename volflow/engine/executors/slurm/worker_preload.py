"""Preload module of workers in Slurm jobs: leave each worker its own GPU.

Dask imports this module (`--preload`) in each worker before it runs any block.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from typing import Any

PER_JOB = "VOLFLOW_PER_JOB"
"""Environment variable with the number of workers that share a job."""


def select_gpu(name: str, environment: MutableMapping[str, str]) -> None:
    """Leave a worker one of the GPUs of its job.

    Parameters
    ----------
    name : str
        Of the worker. Where several share a job, it ends in a hyphen and the worker's number.
    environment : mapping
        `CUDA_VISIBLE_DEVICES` is changed where several workers share what it lists.
    """
    gpus = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    number = re.search(r"-(\d+)$", name)
    if number and gpus and int(environment.get(PER_JOB, "1")) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[int(number.group(1)) % len(gpus)]


def dask_setup(worker: Any) -> None:
    """Set up a worker; Dask calls this function by its name."""
    select_gpu(str(worker.name), os.environ)
