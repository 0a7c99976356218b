"""Overlaps: counts and places of pairs, which add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.metrics.voxels.overlaps import count_overlaps, sum_overlaps


def volumes(seed: int, shape: tuple[int, int, int], labels: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    truth, segments = rng.integers(0, labels, (2, *shape))
    if seed % 2:  # long runs, as segmentations have them
        truth, segments = truth // (labels - 1), segments // (labels - 1)
    return truth, segments, rng.random(shape) < 0.6


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 999), st.tuples(*[st.integers(1, 9)] * 3), st.integers(2, 60),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_equals_counting_voxel_by_voxel(seed, shape, labels, masked, unlabelled):
    truth, segments, mask = volumes(seed, shape, labels)
    actual = count_overlaps(truth, segments, mask if masked else None, (10, -20, 30), unlabelled)
    expected: dict[tuple[int, int], list[int]] = {}
    for z, y, x in np.ndindex(shape):
        if (mask[z, y, x] or not masked) and (truth[z, y, x] or unlabelled):
            row = expected.setdefault((truth[z, y, x], segments[z, y, x]), [0, 0, 0, 0])
            for at, value in enumerate((1, z + 10, y - 20, x + 30)):
                row[at] += value
    columns = (actual.truth, actual.segment, actual.count, actual.z, actual.y, actual.x)
    rows = [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]
    assert rows == [(*pair, *values) for pair, values in sorted(expected.items())]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 7))
def test_rows_of_two_halves_are_those_of_the_whole(seed, cut):
    truth, segments, mask = volumes(seed, (8, 5, 6), 5)
    parts = [
        count_overlaps(truth[part], segments[part], mask[part], (first, 0, 0)).record()
        for part, first in ((slice(0, cut), 0), (slice(cut, None), cut))
    ]
    join_tables = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole = count_overlaps(truth, segments, mask)
    for name, column in sum_overlaps(join_tables).record().items():
        np.testing.assert_array_equal(column, getattr(whole, name))


def test_labels_above_32_bits_are_kept_apart():
    truth = np.array([[[1, 1, 2**63 + 1, 1]]], np.uint64)
    actual = count_overlaps(truth, truth)
    assert actual.truth.tolist() == [1, 2**63 + 1]
    assert actual.x.tolist() == [4, 2]


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"truth \(1, 2, 3\), segmentation \(1, 2, 4\)"):
        count_overlaps(np.zeros((1, 2, 3), int), np.zeros((1, 2, 4), int))
