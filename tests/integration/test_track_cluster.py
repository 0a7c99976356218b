"""Objects followed on a cluster: neither workers nor their deaths change a byte."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.engine.runs import block_children
from tests.integration.slurm_site import Noting, assert_nothing_left, profile
from tests.integration.track_scene import VOLUMES, stored, track_plan, write_scene
from volflow.engine.driver import execute

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

BLOCK = [8, 24, 64]


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(scene, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run in this process."""
    run = tmp_path_factory.mktemp("undisturbed")
    assert execute(track_plan(scene, run, BLOCK)).ok
    files = stored(run)
    for name in VOLUMES:
        assert any(file.startswith(f"{name}/") for file in files)
    return files


class Harm(Noting):
    """Kills a worker in the first step, and interrupts the driver in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.killed = 0

    def progress(self, step, result, phase) -> None:
        if step.name == "ahead" and not self.killed:
            for _, worker in block_children()[:1]:
                os.kill(worker, signal.SIGKILL)
                self.killed = worker
        if step.name == "back" and 0 < result.done < result.total:
            raise KeyboardInterrupt


def test_a_worker_killed_and_a_driver_interrupted_change_no_byte(scene, undisturbed, tmp_path):
    harm = Harm()
    first = execute(track_plan(scene, tmp_path, BLOCK), cluster="local", workers=2, observer=harm)
    assert first.interrupted
    assert harm.killed
    assert not psutil.pid_exists(harm.killed)
    ahead, back = first.steps[:2]
    assert ahead.done == ahead.total == 32
    assert 0 < back.done < 32
    again = execute(track_plan(scene, tmp_path, BLOCK), cluster="local", workers=2)
    assert again.ok
    assert again.steps[0].already == 32
    assert stored(tmp_path) == undisturbed


@pytest.mark.slurm
@pytest.mark.slow
def test_jobs_of_a_slurm_write_the_same_bytes(slurm, scene, undisturbed, tmp_path):
    """`track` in the pool `gpu`, which is its own, the other steps in the pool `cpu`."""
    run = tmp_path / "run"
    plan = track_plan(scene, run, BLOCK)
    assert {step.name for step in plan.steps if step.pool == "gpu"} == {"ahead", "back"}
    observer = Noting()
    site = profile(tmp_path, cpu={"workers": 1}, gpu={"memory": "1500 MB"})
    result = execute(plan, cluster=site, observer=observer)
    assert result.failures == []
    assert result.ok
    assert stored(run) == undisturbed
    assert "pool 'gpu': closed; no later step needs it" in observer.notes
    assert_nothing_left(run)
