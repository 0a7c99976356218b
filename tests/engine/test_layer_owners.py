"""Two runs that write one volume."""

import dataclasses
import json

import numpy as np
import pytest

from tests.engine.runs import BOUNDS, expected_index, files, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.engine.driver import execute, prepare
from volflow.engine.monitor.status import status
from volflow.engine.worker.block_range import run_range
from volflow.errors import PlanError, RunHeld
from volflow.io.run.lock import RunLock
from volflow.io.run.owners import LayerOwner, layer_owner, same_place, set_owner
from volflow.io.volume import Volume

FACTOR = {"a": 2, "b": 3}


def both(tmp_path, name, **rest):
    """The plan of run `a` or `b`, which write one volume with another factor."""
    steps = [toy("Index"), toy("Double", **{"with": {"times": FACTOR[name]}})]
    shared = f"precomputed://{tmp_path}/shared"
    return planned(tmp_path / name, *steps, volumes={"double": {"path": shared}}, **rest)


def shared_voxels(tmp_path):
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/shared")
    return Volume.open(spec, own=True).read(BOUNDS)


def test_a_volume_of_a_run_that_is_held_is_refused_before_anything_is_written(tmp_path):
    assert execute(both(tmp_path, "a")).ok
    plan, before = both(tmp_path, "b"), files(tmp_path / "shared")
    with RunLock(str(tmp_path / "a")):
        held = files(tmp_path)
        with pytest.raises(RunHeld, match="/a wrote it and is held by process"):
            execute(plan)
        left = {name for name in files(tmp_path) if not name.startswith("b/events")}
        assert left == set(held)
    assert files(tmp_path / "shared") == before
    assert execute(plan).ok
    np.testing.assert_array_equal(shared_voxels(tmp_path), expected_index() * 3)


def test_a_step_whose_volume_another_run_took_is_not_done(tmp_path):
    assert execute(both(tmp_path, "a")).ok
    assert status(str(tmp_path / "a")).finished
    assert execute(both(tmp_path, "b")).ok
    assert [step.done for step in status(str(tmp_path / "a")).steps] == [48, 0]
    with_total = [toy("Index"), toy("Double"), toy("Total", **{"in": {"index": "double"}})]
    shared = {"double": {"path": f"precomputed://{tmp_path}/shared"}}
    with pytest.raises(PlanError, match=r"'double' has to be run first.*/b has written it since"):
        execute(planned(tmp_path / "a", *with_total, volumes=shared, only="total"))
    again = execute(both(tmp_path, "a"))
    assert [step.already for step in again.steps] == [48, 0]
    np.testing.assert_array_equal(shared_voxels(tmp_path), expected_index() * 2)


def test_a_task_whose_volume_another_run_took_writes_and_marks_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("volflow.io.run.owners.PAUSE", 0.0)
    plan = planned(tmp_path / "run", toy("Index"))
    run = plan.pipeline.run
    with RunLock(run) as lock:
        prepare(run, plan.steps[0])
        job = dataclasses.replace(plan.steps[0].jobs[0], fence=lock.token)
        assert run_range(job, 0, 1).done == 1
        set_owner(job.targets["index"].spec.path, "other", run="elsewhere")
        before = files(tmp_path)
        with pytest.raises(RunHeld, match="run elsewhere has written it since"):
            run_range(job, 1, 2)
        assert files(tmp_path) == before


def test_the_owner_tells_whether_the_volume_is_complete(tmp_path):
    settings = {"raises": [[1, 1, 1]], "cured_by": str(tmp_path / "cure")}
    plan = planned(tmp_path / "run", toy("Poison", **{"with": settings}))
    step, address = plan.steps[0], f"precomputed://{tmp_path}/run/index"
    assert not execute(plan).ok
    assert layer_owner(address) == LayerOwner(step.digest, str(tmp_path / "run"), False)
    (tmp_path / "cure").touch()
    assert execute(plan).ok
    assert layer_owner(address) == LayerOwner(step.digest, str(tmp_path / "run"), True)
    set_owner(address, step.digest, run=str(tmp_path / "run"), complete=False)  # killed just before
    assert execute(plan).ok
    assert layer_owner(address) == LayerOwner(step.digest, str(tmp_path / "run"), True)


def test_a_run_that_was_moved_keeps_its_blocks(tmp_path):
    execute(planned(tmp_path / "before", toy("Index")))
    (tmp_path / "before").rename(tmp_path / "after")
    assert status(str(tmp_path / "after")).finished
    assert execute(planned(tmp_path / "after", toy("Index"))).steps[0].already == 48
    path = tmp_path / "after/index/volflow.owner.0.json"
    assert json.loads(path.read_text())["run"] == ".."
    assert layer_owner(str(tmp_path / "after/index")).run == str(tmp_path / "after")


def test_an_owner_of_an_earlier_version_is_complete(tmp_path):
    path = tmp_path / "volflow.owner.0.json"
    path.write_text('{"digest": "d"}')
    assert layer_owner(str(tmp_path)) == LayerOwner("d", "", True)


def test_two_spellings_of_a_run_are_one_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert same_place(str(tmp_path), f"file://{tmp_path}/link")
    assert not same_place("s3://bucket/a", str(tmp_path))
