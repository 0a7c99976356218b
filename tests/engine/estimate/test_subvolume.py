"""Blocks of a part: those of the whole, renumbered, with the mirror image around them."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.toys import Nothing
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, zyx
from volflow.core.geometry.shapes import shape_counts
from volflow.core.stage import Layer, Phase, Stage
from volflow.engine.api import make_plan
from volflow.engine.estimate.scaling import TrialMeasurement, estimate, key_of, largest
from volflow.engine.estimate.subvolume import job_in
from volflow.engine.job import Job
from volflow.engine.phases.registry import kind_of
from volflow.engine.phases.volume_views import MirroredVolume
from volflow.io.volume import Volume
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.predict import Predict


def effort(stage: Stage, phase: Phase, bounds: Box, whole: Box) -> float:
    return kind_of(phase).effort(Job("run", "step", "digest", stage, phase), bounds, whole)


small = st.tuples(*[st.integers(1, 9)] * 3)
starts = st.tuples(*[st.integers(-9, 9)] * 3)


def box(start, shape) -> Box:
    return Box(zyx(start), zyx(start) + shape)


def laid(grid: BlockGrid) -> Job:
    return Job("run", "nothing", "digest", Nothing(), Phase("map", "map", grid))


@settings(max_examples=60, deadline=None)
@given(starts, st.tuples(*[st.integers(1, 40)] * 3), small, st.data())
def test_blocks_of_a_part_are_those_of_the_whole(start, extent, shape, data):
    whole = BlockGrid(box(start, extent), shape, (1, 2, 0))
    first = [data.draw(st.integers(0, n - 1)) for n in whole.counts]
    last = [data.draw(st.integers(a, n - 1)) for a, n in zip(first, whole.counts, strict=True)]
    part = Box(whole[zyx(first)].write.start, whole[zyx(last)].write.stop)
    cut = BlockGrid(part, shape)
    actual = pickle.loads(pickle.dumps(job_in(laid(cut), laid(whole), whole.bounds).phase.grid))
    for block in actual:
        there = whole[zyx(first) + block.index]
        assert (block.write, block.read, block.bounds) == (there.write, there.read, there.bounds)
    assert [block.index for block in actual] == [block.index for block in cut]


@settings(max_examples=60, deadline=None)
@given(starts, st.tuples(*[st.integers(1, 30)] * 3), small)
def test_counts_of_shapes_include_every_block_and_every_open_face(start, extent, shape):
    grid = BlockGrid(box(start, extent), shape)
    actual = shape_counts(grid, grid.bounds)
    assert sum(count for count, _, _ in actual) == len(grid)
    assert sum(count * math.prod(sides) for count, sides, _ in actual) == grid.bounds.size
    faces = 0
    for block in grid:
        for other in grid.neighbours(block.index):
            axis = next(a for a in range(3) if other[a] != block.index[a])
            faces += block.write.size // block.write.shape[axis]
    area = sum(count * share * _surface(sides) for count, sides, share in actual)
    assert area == pytest.approx(faces)
    halo_region = Box(zyx(start) - 1, grid.bounds.stop + 1)
    assert {share for _, _, share in shape_counts(grid, halo_region)} == {1.0}


def _surface(sides) -> int:
    z, y, x = sides
    return 2 * (z * y + y * x + z * x)


@pytest.mark.parametrize("kind", ["image", "segmentation"])
def test_beyond_a_part_is_its_mirror_image_and_beyond_the_whole_nothing(tmp_path, kind):
    part, whole = Box((4, 4, 4), (12, 10, 9)), Box((0, 2, 4), (40, 40, 40))
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/volume")
    volume, _ = Volume.create(spec, Layer("uint32", 0, kind), part, (8.0, 8.0, 8.0), (8, 8, 8))
    values = np.random.default_rng(5).integers(0, 9, part.shape).astype("uint32")
    volume.write(part, values)
    asked = Box((-1, 0, 1), (15, 13, 13))
    actual = MirroredVolume(volume, whole).read(asked)
    assert (MirroredVolume(volume, whole).read(part) == values).all()
    wide = np.pad(values, [(5, 3), (4, 3), (3, 4)], "symmetric")
    inside = np.zeros(asked.shape, bool)
    inside[part.within(asked)] = True
    if kind == "segmentation":
        wide = np.where(inside | (wide == 0), wide, wide + (1 << 30))
    known = np.zeros(asked.shape, bool)
    known[asked.clip(whole).within(asked)] = True
    np.testing.assert_array_equal(actual, np.where(known, wide, 0))


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(20, 400)] * 3), st.tuples(*[st.integers(20, 200)] * 3))
def test_the_effort_of_a_network_is_the_tiles_that_its_blocks_compute(extent, shape):
    stage, bounds = Predict(model="fib25-affinity"), box((3, -4, 5), extent)
    grid, tiling = BlockGrid(bounds, shape), stage.tiling(bounds)
    tiles = sum(len(tiling.tiles_over(block.write)) for block in grid)
    assert stage.effort(grid, bounds) == tiles


def test_each_pool_is_reported_with_the_step_that_needs_most_in_it():
    plan = make_plan("petascale", offline=True)
    actual = largest(plan)
    assert [pool for pool, _, _ in actual] == ["cpu", "gpu"]
    for pool, name, memory in actual:
        needs = {s.name: max(s.memory.values()) for s in plan.steps if s.pool == pool}
        assert memory == needs[name] == max(needs.values())


def test_a_part_costs_its_share_of_the_whole():
    """Records that the children of a node in the middle pass up, whatever the volume around it."""
    stage = Agglomerate(threshold=0.3, min_size=100)
    whole, part = box((0, 0, 0), (512, 512, 512)), box((192, 192, 192), (128, 128, 128))
    large, little = (stage.phases(BlockGrid(bounds, (64, 64, 64))) for bounds in (whole, part))
    assert effort(stage, little[0], part, whole) * 64 == effort(stage, large[0], whole, whole)
    shares = {}
    for join in little:
        if join.kind == "join":
            above = next(phase for phase in large if phase.name == join.name)
            shares[join.round_name] = effort(stage, above, whole, whole) / effort(
                stage, join, part, whole
            )
    an_eighth_of_all_faces_is_on_the_bounds = pytest.approx(64 * (1 - 8 / 8 / 8))
    for faces in ("link", "join1"):
        assert shares[faces] == an_eighth_of_all_faces_is_on_the_bounds
    for all_that_is_passed in ("merge", "small"):
        assert shares[all_that_is_passed] == pytest.approx(64)


def test_merging_costs_as_much_on_every_level_and_linking_less_and_less():
    stage = Agglomerate(threshold=0.3)
    whole = box((0, 0, 0), (4096, 4096, 4096))
    cost = {
        phase.name: effort(stage, phase, whole, whole)
        for phase in stage.phases(BlockGrid(whole, (64, 64, 64)))
        if phase.kind == "join"
    }
    assert cost["link.up.3"] < 0.7 * cost["link.up.2"] < 0.7 * cost["link.up.1"]
    assert cost["merge.up.3"] == pytest.approx(cost["merge.up.1"], rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 10), st.integers(1, 3))
def test_an_estimate_of_costs_that_follow_the_rule_is_their_sum(seconds, small):
    """Whatever was tried: all work, if each unit of it takes the same."""
    plan = make_plan("petascale", offline=True)
    step = next(step for step in plan.steps if step.stage.__class__ is Agglomerate)
    tried, all_units = {}, 0.0
    for job in step.jobs:
        actual = effort(step.stage, job.phase, plan.bounds, plan.bounds)
        all_units += actual
        part = actual / 10**small
        tried[key_of(job)] = TrialMeasurement(
            effort=part, storage_effort=1, timed_effort=part, seconds=seconds * part
        )
    assert estimate(plan, step, tried).work == pytest.approx(seconds * all_units)
    lone = {key: known for key, known in tried.items() if key[2] != "merge"}
    left_out = estimate(plan, step, lone)
    assert left_out.work < seconds * all_units
    assert {name.split(".")[0] for name in left_out.unknown} == {"merge"}
