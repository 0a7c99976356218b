"""The law: each threshold of a list gives the bytes of a run of its own."""

from __future__ import annotations

import random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.cases import Case, random_case
from tests.harness import Memory, run_in_memory, run_stage
from tests.public_data import public_data
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Columns
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments
from volflow.stages.relabel import Relabel

randoms = st.randoms(use_true_random=False)


def segmentations(
    fragments: Fragments,
    agglomerate: Agglomerate,
    grid: BlockGrid,
    affinity: np.ndarray,
    offset: Triple = (0, 0, 0),
    mask: np.ndarray | None = None,
) -> dict[float, np.ndarray]:
    """The segmentation at each threshold of one run by blocks."""
    memory = Memory({"affinity": (affinity, offset)})
    where = None if mask is None else (mask.astype(np.uint8), offset)
    for stage in (fragments, agglomerate):
        run_stage(stage, grid, memory, {}, where)
    actual = {}
    for threshold in agglomerate.thresholds:
        run_stage(Relabel(threshold=threshold), grid, memory, {}, where)
        actual[threshold] = memory.arrays["segmentation"][0]
    return actual


def of_case(case: Case, thresholds: tuple[float, ...]) -> dict[float, np.ndarray]:
    return segmentations(
        Fragments(**case.fragments),
        Agglomerate(**{**case.agglomerate, "threshold": thresholds}),
        BlockGrid(case.bounds, case.block),
        case.affinity,
        case.offset,
        case.mask,
    )


def check_against_reference(case: Case, draw: random.Random) -> None:
    known = [0.0, 0.1, 0.2, 0.3, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.9, 1.0]
    thresholds = tuple(draw.sample(known, draw.choice([1, 2, 5])))
    actual = of_case(case, thresholds)
    assert sorted(actual) == sorted(thresholds)
    for threshold in thresholds:
        case.agglomerate["threshold"] = threshold
        expected = case.by_reference()
        np.testing.assert_array_equal(
            actual[threshold], expected, err_msg=f"{case}, of {thresholds}"
        )


@settings(max_examples=60, deadline=None)
@given(randoms)
def test_each_of_several_thresholds_gives_the_segmentation_of_the_reference(draw: random.Random):
    case = random_case(draw, draw.choice([60, 200, 400]))
    if draw.choice([True, False, False]):
        case.block = case.bounds.shape  # a block that knows everything
    check_against_reference(case, draw)


@settings(max_examples=40, deadline=None)
@given(randoms)
def test_with_a_horizon_too(draw: random.Random):
    check_against_reference(random_case(draw, draw.choice([60, 200, 400]), horizon=True), draw)


def smooth(shape: Triple, levels: int) -> np.ndarray:
    values = np.random.default_rng(7).random((3, *shape))
    for axis in (1, 2, 3):
        values += np.roll(values, 1, axis)
    values = (values - values.min()) / np.ptp(values)
    return np.floor(values * levels * 0.9999).astype(np.uint8) * np.uint8(255 // (levels - 1))


@pytest.mark.parametrize("block", [(24, 26, 28), (8, 8, 8), (5, 26, 9)])
@pytest.mark.parametrize("min_size", [0, 40])
@pytest.mark.parametrize("join_rounds", [0, 1])
@pytest.mark.parametrize("horizon", [None, 2])
def test_five_thresholds_are_five_runs(block, min_size, join_rounds, horizon):
    affinity = smooth((24, 26, 28), 16)
    grid = BlockGrid(Box((0, 0, 0), (24, 26, 28)), block)
    given = {"min_size": min_size, "min_size_score": 0.3, "join_rounds": join_rounds}
    if horizon:
        given["horizon"] = tuple(horizon * side for side in block)
    thresholds = (0.7, 0.45, 0.5, 0.55, 0.6)
    actual = segmentations(Fragments(), Agglomerate(threshold=thresholds, **given), grid, affinity)
    counts = []
    for threshold in sorted(thresholds):
        stage = Agglomerate(threshold=threshold, **given)
        alone = run_in_memory(Fragments(), stage, grid, affinity)[0]
        assert actual[threshold].tobytes() == alone.tobytes()
        counts.append(len(np.unique(alone)))
    assert len(set(counts)) > 2  # thresholds that differ


def test_a_threshold_that_a_score_meets_exactly_merges_it():
    # two pieces across one face, mean 51 / 255 = 0.2: it merges at 0.2 and not just above
    affinity = np.zeros((3, 1, 1, 4), np.uint8)
    affinity[2, 0, 0, 1:] = [255, 51, 255]
    grid = BlockGrid(Box((0, 0, 0), (1, 1, 4)), (1, 1, 1))
    above = float(np.nextafter(0.2, 1))
    actual = segmentations(
        Fragments(), Agglomerate(threshold=(above, 0.2), join_rounds=0), grid, affinity
    )
    assert actual[0.2].ravel().tolist() == [4, 4, 4, 4]
    assert actual[above].ravel().tolist() == [2, 2, 4, 4]


def test_a_list_is_kept_in_order_and_makes_a_column_for_each():
    stage = Agglomerate(threshold=(0.5, 0.25, 0.3), min_size=9, horizon=64)
    assert stage.threshold == stage.thresholds == (0.25, 0.3, 0.5)
    assert stage.outputs["table"] == Columns(
        (
            ("piece", "uint64"),
            ("segment_0.25", "uint64"),
            ("segment_0.3", "uint64"),
            ("segment_0.5", "uint64"),
        )
    )
    small, seams = [[f"{kind}{n}" for n in (1, 2, 3)] for kind in ("small", "seams")]
    assert stage.rounds == ("link", "join1", "merge", *small, *seams)
    assert Agglomerate.model_validate_json(stage.model_dump_json()) == stage


def test_one_threshold_is_as_it_was():
    stage = Agglomerate(threshold=0.3, min_size=9, horizon=64)
    assert stage.thresholds == (0.3,)
    assert stage.outputs["table"] == Columns((("piece", "uint64"), ("segment", "uint64")))
    assert stage.rounds == ("link", "join1", "merge", "small", "seams")
    assert stage.identity()["threshold"] == 0.3


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ([], "expected at least one threshold"),
        ([0.3, 0.5, 0.3], r"expected distinct thresholds; got 0\.3, 0\.5, 0\.3"),
        ([0.3, 1.5], "less than or equal to 1"),
    ],
)
def test_lists_that_make_no_sense_are_errors(wrong, reported):
    with pytest.raises(ValidationError, match=reported):
        Agglomerate(threshold=wrong)


@pytest.mark.slow
@pytest.mark.parametrize("min_size", [0, 100])
def test_on_real_affinities_too(min_size: int):
    path = public_data("fib25_medulla/affinity_baseline_z000-165.h5")
    with h5py.File(path) as file:
        affinity = file["affinity"][:, 20:84, 60:156, 100:196]
    bounds = Box((20, 60, 100), (84, 156, 196))
    thresholds = (0.2, 0.3, 0.4, 0.6, 0.8)
    stage = Agglomerate(threshold=thresholds, min_size=min_size)
    cut, whole = BlockGrid(bounds, (33, 40, 57)), BlockGrid(bounds, bounds.shape)
    actual = segmentations(Fragments(), stage, cut, affinity, bounds.start)
    counts = []
    for threshold in thresholds:
        stage = Agglomerate(threshold=threshold, min_size=min_size)
        alone = run_in_memory(Fragments(), stage, whole, affinity, bounds.start)[0]
        np.testing.assert_array_equal(actual[threshold], alone)
        counts.append(len(np.unique(alone)))
    assert counts == sorted(set(counts))
