"""Three real blocks, and what they tell of the whole run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from volflow.core.geometry import Box, triple
from volflow.engine.run import execute
from volflow.engine.trial import hours, middle, stored_bytes, try_out
from volflow.errors import BlockError

STEPS = (toy("Index"), toy("Double"), toy("Total"), toy("Digits"))
ROW = "2:10,3:11,4:28"  # three blocks


def test_a_trial_of_the_whole_volume_tells_what_the_run_will_store(tmp_path):
    plan = planned(tmp_path / "run", *STEPS, bounds=ROW)
    found = try_out(plan, 3)
    assert not (tmp_path / "run").exists(), "a trial leaves nothing where the run will be"
    assert execute(plan).ok
    stored = sum(step.stored for step in found)
    assert stored == pytest.approx(stored_bytes(str(tmp_path / "run")), rel=0.02)
    assert [step.tried for step in found] == [step.blocks for step in plan.steps]
    assert all(step.unknown == [] for step in found)


def test_work_and_storage_grow_with_the_volume(tmp_path):
    slow = toy("Index", **{"with": {"seconds": 0.02}})
    plan = planned(tmp_path / "run", slow, toy("Double"))
    index, double = try_out(plan, 2)
    assert index.tried == double.tried == 2
    assert index.work >= 48 * 0.02, "each block sleeps so long"
    assert hours([index], 4) == pytest.approx((index.work / 4 + index.start) / 3600)
    assert execute(plan).ok
    stored = stored_bytes(str(tmp_path / "run"))
    assert index.stored + double.stored == pytest.approx(stored, rel=0.25)
    assert index.memory > 20 << 20


def test_a_block_that_fails_ends_the_trial_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = planned(tmp_path / "run", toy("Poison", **{"with": {"raises": [[0, 0, 0]]}}))
    with pytest.raises(BlockError, match=r"trial: step 'poison', pass map, block 0 0 0 failed"):
        try_out(plan, 2)
    assert list(Path(tmp_path).iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(-20, 20)] * 3),
    st.tuples(*[st.integers(1, 70)] * 3),
    st.integers(1, 5),
)
def test_the_middle_is_whole_blocks_of_the_volume(start, shape, blocks):
    bounds = Box(triple(start), triple([a + n for a, n in zip(start, shape, strict=True)]))
    plan = planned(Path("nowhere"), toy("Index"), bounds=str(bounds))
    found = middle(plan, blocks)
    assert bounds.covers(found)
    assert found.size > 0
    for axis in range(3):
        side = min(8, bounds.shape[axis])
        assert (found.start[axis] - bounds.start[axis]) % 8 == 0
        assert found.shape[axis] % side == 0
    assert found.size <= blocks * 8**3
