"""The Slurm that deploy/slurm/up.sh starts on one machine: its profile fits its nodes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import volflow
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.executors.profile import find_profile
from volflow.io.volume import Volume

FOLDER = Path(__file__).parents[3] / "deploy" / "slurm"


@pytest.mark.parametrize("pipeline", ["fib25", "lsd", "segneuron"])
def test_a_gpu_worker_has_the_memory_of_a_bundled_network(tmp_path, pipeline):
    spec = VolumeSpec(path=f"zarr://{tmp_path}/em.zarr")
    bounds = Box((0, 0, 0), (128, 128, 128))
    volume, _ = Volume.create(spec, Layer("uint8"), bounds, (10.0, 10.0, 10.0), bounds.shape)
    volume.write(bounds, np.ones(bounds.shape, np.uint8))
    overrides = [f"volumes.em.path={spec.path}", f"run={tmp_path}/run"]
    memory = {step.name: step.memory for step in volflow.plan(pipeline, overrides=overrides).steps}[
        "predict"
    ]
    pool = find_profile(str(FOLDER / "site.yaml")).pools["gpu"]
    assert 1e8 < memory["map"] <= pool.memory_for_blocks


def test_the_workers_of_a_job_fit_a_node():
    (node,) = re.findall(r"VOLFLOW_SLURM_MEMORY:-(\d+)", (FOLDER / "up.sh").read_text())
    for pool in find_profile(str(FOLDER / "site.yaml")).pools.values():
        assert pool.per_job * pool.memory <= int(node) * 2**20
