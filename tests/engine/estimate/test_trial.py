"""Three real blocks, and the costs of the whole run that follow from them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.runs import BOUNDS, planned, toy
from volflow.core.geometry import Box, zyx
from volflow.engine.api import make_plan
from volflow.engine.driver import execute
from volflow.engine.estimate import trial
from volflow.engine.estimate.trial import hours, middle, run_trial, stored_bytes
from volflow.errors import BlockError

ANCHORED = "tests.engine.anchored"
STEPS = (toy("Index"), toy("Double"), toy("Total"), toy("Digits"))
ROW = "2:10,3:11,4:28"  # three blocks


@pytest.fixture(autouse=True)
def _once(monkeypatch):
    """Short passes are measured once; repetition is not tested here."""
    monkeypatch.setattr(trial, "OFTEN", 1)


def test_a_trial_of_the_whole_volume_tells_what_the_run_will_store(tmp_path):
    plan = planned(tmp_path / "run", *STEPS, bounds=ROW)
    actual = run_trial(plan, 3)
    assert not (tmp_path / "run").exists(), "a trial leaves nothing where the run will be"
    assert execute(plan).ok
    stored = sum(step.stored for step in actual)
    assert stored == pytest.approx(stored_bytes(str(tmp_path / "run")), rel=0.02)
    assert [step.tried for step in actual] == [step.blocks for step in plan.steps]
    assert all(step.unknown == [] for step in actual)


def test_work_and_storage_grow_with_the_volume(tmp_path):
    slow = toy("Index", **{"with": {"seconds": 0.02}})
    plan = planned(tmp_path / "run", slow, toy("Double"))
    index, double = run_trial(plan, 2)
    assert index.tried == double.tried == 2
    assert index.work >= 48 * 0.02, "each block sleeps so long"
    alone = index.start + index.between
    assert hours([index], 4) == pytest.approx((index.work / 4 + alone) / 3600)
    assert index.between > 0, "passes begin and end, however many workers there are"
    assert execute(plan).ok
    stored = stored_bytes(str(tmp_path / "run"))
    assert index.stored + double.stored == pytest.approx(stored, rel=0.25)
    assert index.memory > 20 << 20


def test_a_block_that_fails_ends_the_trial_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = planned(tmp_path / "run", toy("Poison", **{"with": {"raises": [[0, 0, 0]]}}))
    with pytest.raises(BlockError, match=r"trial: step 'poison', phase map, block 0 0 0 failed"):
        run_trial(plan, 2)
    assert list(Path(tmp_path).iterdir()) == []


def test_blocks_that_depend_on_the_bounds_are_shown_those_of_the_whole(tmp_path):
    reported = {"with": {"bounds": str(BOUNDS)}, "name": "seen"}
    plan = planned(tmp_path / "run", toy("Index"), {"use": f"{ANCHORED}:Anchored", **reported})
    assert [step.name for step in run_trial(plan, 3)] == ["index", "seen"]
    loose = planned(tmp_path / "run", toy("Index"), {"use": f"{ANCHORED}:Loose", **reported})
    with pytest.raises(BlockError, match="the block is in"):
        run_trial(loose, 3)


def test_three_blocks_of_a_segmentation_tell_the_bytes_of_all(tmp_path):
    """Stored bytes do not depend on the machine, so this is the same everywhere."""
    rng = np.random.default_rng(3)
    values = rng.random((3, 72, 72, 72))
    for axis in (1, 2, 3) * 4:
        values += np.roll(values, 1, axis)
    affinity = (255 * (values - values.min()) / np.ptp(values)).astype("uint8")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file["affinity"] = affinity
    where = f"hdf5://{tmp_path}/volume.h5?dataset=affinity"
    overrides = [f"volumes.affinity.path={where}", "volumes.affinity.resolution=[8,8,8]"]
    overrides += [f"run={tmp_path}/run", "block=[24,24,24]", "steps.agglomerate.min_size=50"]
    overrides += ["steps.agglomerate.threshold=0.5"]
    plan = make_plan("segment", overrides=overrides, until="agglomerate")
    assert execute(plan).ok  # compiles kernels for the first time, which takes memory of its own
    actual = run_trial(plan, 3)
    stored = sum(step.stored for step in actual)
    assert stored == pytest.approx(stored_bytes(str(tmp_path / "run")), rel=0.1)
    assert all(step.memory <= step.most + (64 << 20) for step in actual)
    assert all(step.unknown == [] for step in actual)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(-20, 20)] * 3),
    st.tuples(*[st.integers(1, 70)] * 3),
    st.integers(1, 5),
)
def test_the_middle_is_whole_blocks_of_the_volume(start, shape, blocks):
    bounds = Box(zyx(start), zyx(start) + shape)
    plan = planned(Path("nowhere"), toy("Index"), bounds=str(bounds))
    actual = middle(plan, blocks)
    assert bounds.covers(actual)
    assert actual.size > 0
    count, whole = 1, 1
    for axis in range(3):
        side = min(8, bounds.shape[axis])
        assert (actual.start[axis] - bounds.start[axis]) % 8 == 0
        assert actual.shape[axis] % side == 0 or actual.stop[axis] == bounds.stop[axis]
        count *= -(-actual.shape[axis] // 8)
        whole *= max(1, bounds.shape[axis] // 8)
    assert count <= blocks
    if whole >= blocks:
        assert all(n % min(8, m) == 0 for n, m in zip(actual.shape, bounds.shape, strict=True))


def test_a_volume_of_few_blocks_is_tried_on_as_many_as_are_wanted():
    plan = planned(Path("nowhere"), toy("Index"), bounds="0:12,0:12,0:12")
    assert middle(plan, 3).shape in {(8, 8, 12), (8, 12, 8), (12, 8, 8)}
