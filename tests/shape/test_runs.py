"""Runs of coarse voxels: the same however a volume is cut, and exactly the voxels of segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import boxes, triples
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Record
from volflow.shape.runs import (
    COLUMNS,
    block_runs,
    coarser_factor,
    coarser_runs,
    factor_of,
    is_inside,
    mask_of,
    merged_runs,
    segments_of,
)

LABELS = (0, 0, 3, 5, (1 << 64) - 1)


def labels_of(bounds: Box, seed: int) -> np.ndarray:
    picks = np.random.default_rng(seed).integers(0, len(LABELS), bounds.shape)
    return np.array(LABELS, np.uint64)[picks]


def by_blocks(labels: np.ndarray, bounds: Box, block: Triple, factor: Triple) -> Record:
    """Merged runs of all blocks, which come in the order from last to first."""
    parts = [
        block_runs(labels[each.write.within(bounds)], each.write.start, factor)
        for each in BlockGrid(bounds, block)
    ][::-1]
    return merged_runs({name: np.concatenate([part[name] for part in parts]) for name in COLUMNS})


def voxel_by_voxel(labels: np.ndarray, bounds: Box, factor: Triple) -> dict[int, set[Triple]]:
    """The coarse voxels of each segment."""
    coarse: dict[int, set[Triple]] = {}
    for index in np.argwhere(labels):
        z, y, x = (index + np.array(bounds.start)) // np.array(factor)
        coarse.setdefault(int(labels[tuple(index)]), set()).add((int(z), int(y), int(x)))
    return coarse


def voxels_of(runs: Record) -> set[Triple]:
    columns = zip(*(runs[name].tolist() for name in ("z", "y", "x", "stop")), strict=True)
    voxels = [(z, y, at) for z, y, x, stop in columns for at in range(x, stop)]
    assert len(voxels) == len(set(voxels))  # no two runs overlap
    return set(voxels)


@settings(max_examples=100, deadline=None)
@given(boxes(1), triples(1, 7), triples(1, 4), st.integers(0, 1 << 20))
def test_runs_are_the_coarse_voxels_of_each_segment_whatever_the_blocks(
    bounds: Box, block: Triple, factor: Triple, seed: int
) -> None:
    labels = labels_of(bounds, seed)
    runs = by_blocks(labels, bounds, block, factor)
    whole = block_runs(labels, bounds.start, factor)
    for name in COLUMNS:
        assert runs[name].tobytes() == whole[name].tobytes(), name
    expected = voxel_by_voxel(labels, bounds, factor)
    assert {name: voxels_of(own) for name, own in segments_of(runs)} == expected
    for name, own in segments_of(runs):
        assert own["voxels"].sum() == np.count_nonzero(labels == np.uint64(name))
        mask, start = mask_of(own)
        assert {tuple(voxel.tolist()) for voxel in np.argwhere(mask) + start} == expected[name]
        box = np.argwhere(np.ones(mask.shape)) + start
        np.testing.assert_array_equal(is_inside(own)(box), mask.ravel() > 0)


@settings(max_examples=50, deadline=None)
@given(boxes(1), triples(1, 3), triples(1, 3), st.integers(0, 1 << 20))
def test_coarser_runs_are_those_of_the_coarser_lattice(
    bounds: Box, factor: Triple, step: Triple, seed: int
) -> None:
    labels = labels_of(bounds, seed)
    coarser = coarser_runs(block_runs(labels, bounds.start, factor), step)
    z, y, x = (a * b for a, b in zip(factor, step, strict=True))
    expected = block_runs(labels, bounds.start, (z, y, x))
    for name in COLUMNS:
        np.testing.assert_array_equal(coarser[name], expected[name], err_msg=name)


def test_no_rows_are_columns_without_rows() -> None:
    empty = block_runs(np.zeros((3, 4, 5), np.uint64), (0, 0, 0), (2, 2, 2))
    for runs in (empty, merged_runs({}), merged_runs(empty)):
        assert {name: len(column) for name, column in runs.items()} == dict.fromkeys(COLUMNS, 0)
        assert list(segments_of(runs)) == []


@pytest.mark.parametrize(
    ("resolution", "side", "factor", "coarser"),
    [
        ((8.0, 8.0, 8.0), 32.0, (4, 4, 4), (8, 8, 8)),
        ((40.0, 16.0, 16.0), 32.0, (1, 2, 2), (2, 4, 4)),
        ((200.0, 4.0, 4.0), 32.0, (1, 8, 8), (1, 16, 16)),  # thick sections wait
        ((30.0, 6.0, 6.0), 5.0, (1, 1, 1), (1, 2, 2)),
    ],
)
def test_voxels_are_combined_until_they_are_as_wide_and_even(
    resolution, side, factor, coarser
) -> None:
    assert factor_of(resolution, side) == factor
    assert coarser_factor(resolution, factor) == coarser


def test_labels_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected uint64 \(Z, Y, X\); got int32 of shape"):
        block_runs(np.zeros((2, 2, 2), np.int32), (0, 0, 0), (1, 1, 1))
