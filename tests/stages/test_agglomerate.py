"""The law: the bytes of a segmentation do not depend on the blocks."""

from __future__ import annotations

import random

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.cases import Case, random_case
from tests.harness import run_in_memory
from tests.public_data import public_data
from tests.reference import Tied, segmentation
from volflow.core.geometry import BlockGrid, Box
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments

randoms = st.randoms(use_true_random=False)


@settings(max_examples=150, deadline=None)
@given(randoms)
def test_blocks_of_any_shape_give_the_segmentation_of_the_reference(draw: random.Random):
    case = random_case(draw, draw.choice([60, 200, 500]))
    np.testing.assert_array_equal(case.by_blocks(), case.by_reference(), err_msg=str(case))


@settings(max_examples=80, deadline=None)
@given(randoms)
def test_with_a_horizon_too(draw: random.Random):
    case = random_case(draw, draw.choice([60, 200, 500]), horizon=True)
    np.testing.assert_array_equal(case.by_blocks(), case.by_reference(), err_msg=str(case))


@settings(max_examples=30, deadline=None)
@given(randoms)
def test_two_cuts_of_a_larger_volume_give_the_same(draw: random.Random):
    rng = np.random.default_rng(draw.getrandbits(32))
    shape = tuple(draw.randint(12, 26) for _ in range(3))
    values = rng.random((3, *shape))
    for axis in (1, 2, 3):
        values += np.roll(values, 1, axis)
    affinity = np.floor(255 * values / values.max()).astype(np.uint8)
    case = random_case(draw)
    bounds = Box((5, 6, 7), tuple(a + n for a, n in zip((5, 6, 7), shape, strict=True)))
    case = Case(affinity, (5, 6, 7), None, bounds, case.block, case.fragments, case.agglomerate)
    one, other = (tuple(draw.randint(3, 14) for _ in range(3)) for _ in range(2))
    np.testing.assert_array_equal(case.by_blocks(one), case.by_blocks(other), err_msg=str(case))


def flipped(affinity: np.ndarray, axis: int) -> np.ndarray:
    """Affinities of the volume seen in a mirror."""
    seen = np.flip(affinity, axis + 1).copy()
    seen[axis] = np.roll(seen[axis], 1, axis)  # a pair belongs to its other voxel now
    return seen


def partition(labels: np.ndarray) -> np.ndarray:
    """Labels renamed in the order in which they are met, 0 kept."""
    names, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.where(names == 0, -1, first))
    rank = np.empty(len(names), int)
    rank[order] = np.arange(len(names)) + (0 not in names)
    return rank[inverse].reshape(labels.shape)


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_flips_and_permutations_of_axes_commute_on_data_without_ties(draw: random.Random):
    shape = tuple(draw.randint(1, 4) for _ in range(3))
    rng = np.random.default_rng(draw.getrandbits(32))
    affinity = np.zeros((3, *shape), np.uint8)
    affinity.flat = rng.permutation(np.arange(affinity.size) % 255 + 1)
    parameters = {"threshold": 0.3, "join_rounds": draw.choice([0, 1]), "join_score": 0.4}
    try:
        segmentation(affinity, **parameters, ties=False)
    except Tied:
        assume(False)
    block = tuple(draw.randint(1, 4) for _ in range(3))

    def segmented(volume: np.ndarray) -> np.ndarray:
        grid = BlockGrid(Box((0, 0, 0), volume.shape[1:]), block)
        return run_in_memory(Fragments(), Agglomerate(**parameters), grid, volume)[0]

    plain = segmented(affinity)
    axis = draw.randrange(3)
    seen = np.flip(segmented(flipped(affinity, axis)), axis)
    np.testing.assert_array_equal(partition(seen), partition(plain))
    axes = draw.sample([0, 1, 2], 3)
    turned = affinity[axes].transpose(0, *(1 + axis for axis in axes))
    back = segmented(np.ascontiguousarray(turned)).transpose(np.argsort(axes))
    np.testing.assert_array_equal(partition(back), partition(plain))


def test_a_segment_is_named_by_its_last_voxel():
    case = random_case(random.Random(3), 500)
    labels = case.by_blocks()
    names = np.unique(labels[labels > 0])
    assert len(names) > 1
    flat = labels.ravel()
    for name in names.tolist():
        assert 1 + np.nonzero(flat == name)[0][-1] == name


def test_only_the_leaves_of_the_first_round_read_voxels():
    stage = Agglomerate(threshold=0.3, join_rounds=2, min_size=5)
    grid = BlockGrid(Box((0, 0, 0), (8, 8, 8)), (2, 2, 2), stage.halo)
    reading = [phase.name for phase in stage.phases(grid) if stage.reads(phase)]
    assert reading == ["link.up.0"]
    assert stage.rounds == ("link", "join1", "join2", "merge", "small")


def test_levels_reach_the_horizon_and_go_on_only_for_the_seams():
    stage = Agglomerate(threshold=0.3, horizon=(12, 8, 999))
    grid = BlockGrid(Box((0, 0, 0), (40, 40, 40)), (2, 4, 5))
    assert stage.check(grid) == []
    shapes = [level.shape for level in stage.tree("merge", grid)]
    assert shapes == [(2, 4, 5), (4, 8, 10), (12, 8, 20), (12, 8, 40)]
    tops = stage.tree("seams", grid)
    assert [level.shape for level in tops[:4]] == shapes
    assert len(tops[-1]) == 1


def test_a_horizon_that_cuts_blocks_is_reported_at_planning():
    grid = BlockGrid(Box((0, 0, 0), (40, 40, 40)), (4, 4, 64))
    problems = Agglomerate(threshold=0.3, horizon=(6, 8, 20)).check(grid)
    assert problems == [
        "horizon: expected a multiple of the block's 4 voxels along z; got 6",
        "horizon: expected a multiple of the block's 64 voxels along x; got 20",
    ]
    assert Agglomerate(threshold=0.3, horizon=(8, 40, 64)).check(grid) == []


@pytest.mark.parametrize("wrong", [{"threshold": 1.1}, {"join_rounds": -1}, {"horizon": 0}])
def test_parameters_out_of_range_are_errors(wrong):
    with pytest.raises(ValidationError):
        Agglomerate(**{"threshold": 0.3, **wrong})


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [0, 1])
def test_real_affinities_too(rounds: int):
    path = public_data("fib25_medulla/affinity_baseline_z000-165.h5")
    with h5py.File(path) as file:
        affinity = file["affinity"][:, 20:116, 60:188, 100:228]
    bounds = Box((20, 60, 100), (116, 188, 228))
    stage = Agglomerate(threshold=0.3, join_rounds=rounds, min_size=100)
    one, other = (
        run_in_memory(Fragments(), stage, BlockGrid(bounds, block), affinity, bounds.start)[0]
        for block in ((96, 128, 128), (33, 40, 57))
    )
    assert len(np.unique(one)) > 100
    np.testing.assert_array_equal(one, other)


def test_memory_grows_up_to_a_box_of_the_horizon_and_then_with_its_planes():
    free, bounded = Agglomerate(threshold=0.3), Agglomerate(threshold=0.3, horizon=256)
    growth = free.node_memory((512, 512, 512)) / free.node_memory((256, 256, 256))
    assert growth == pytest.approx(5.5, rel=0.01)
    grid = BlockGrid(Box((0, 0, 0), (1 << 16,) * 3), (128, 128, 128))

    def needs(stage: Agglomerate, name: str) -> int:
        phase = next(phase for phase in stage.phases(grid) if phase.name == name)
        return stage.phase_memory(phase, phase.grid.shape)

    for name in ("merge.up.1", "merge.down.1", "seams.up.1"):
        assert needs(bounded, name) == bounded.node_memory((256, 256, 256))
    assert needs(free, "merge.up.4") == free.node_memory((2048, 2048, 2048))
    for way in ("up", "down"):
        large = needs(bounded, f"seams.{way}.5")
        assert needs(bounded, f"seams.{way}.6") == 4 * large, "only what is at planes"
        assert large < needs(Agglomerate(threshold=0.3, horizon=512), "merge.up.2")
    sized = Agglomerate(threshold=0.3, horizon=256, min_size=9)
    assert needs(sized, "seams.up.5") < needs(bounded, "seams.up.5")
