"""Background filled with the nearest segment: exactly, with ties, and block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.contract import filled as over
from volflow.core.geometry import BlockGrid, Box
from volflow.segment.fill import fill_halo, filled

sides = st.integers(1, 6)
voxel = st.tuples(*[st.sampled_from((4.0, 8.0, 9.2, 12.0, 30.0))] * 3)
distance = st.sampled_from((0.0, 4.0, 9.2, 12.0, 25.0, 60.0))


@st.composite
def labels(draw: st.DrawFn) -> np.ndarray:
    """A few labelled voxels in a small volume."""
    shape = draw(st.tuples(sides, sides, st.integers(1, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from((0.0, 0.03, 0.1, 0.5)))
    return np.asarray(rng.integers(1, 9, shape) * (rng.random(shape) < share), np.uint64)


def by_search(given: np.ndarray, distance_nm: float, resolution: tuple[float, ...]) -> np.ndarray:
    """The nearest of all labelled voxels, the first in order of z, y, x, for each other one."""
    side = np.rint(np.array(resolution) * 1000).astype(np.int64)
    limit = round(distance_nm * 1000) ** 2
    at, result = np.argwhere(given > 0), given.copy()
    for place in np.argwhere(given == 0):
        squares = (((at - place) * side) ** 2).sum(axis=1)
        if len(squares) and squares.min() <= limit:
            result[tuple(place)] = given[tuple(at[squares.argmin()])]
    return result


@settings(max_examples=60, deadline=None)
@given(labels(), distance, voxel)
def test_each_voxel_has_the_label_of_the_first_of_the_nearest(given, distance_nm, resolution):
    expected = by_search(given, distance_nm, resolution)
    np.testing.assert_array_equal(filled(given, distance_nm, resolution), expected)


@settings(max_examples=60, deadline=None)
@given(labels(), distance, voxel, st.tuples(sides, sides, sides))
def test_block_by_block_equals_in_one_piece(given, distance_nm, resolution, block):
    bounds = Box((0, 0, 0), given.shape)
    whole, parts = filled(given, distance_nm, resolution), np.zeros_like(given)
    for place in BlockGrid(bounds, block, fill_halo(distance_nm, resolution)):
        part = filled(over(given, bounds, place.read), distance_nm, resolution)
        parts[place.write.within(bounds)] = place.crop(part)
    np.testing.assert_array_equal(parts, whole)


@settings(max_examples=30, deadline=None)
@given(labels(), distance, voxel, st.permutations(range(1, 9)))
def test_filling_and_renaming_commute(given, distance_nm, resolution, names):
    renamed = np.array([0, *names], np.uint64)
    np.testing.assert_array_equal(
        filled(renamed[given], distance_nm, resolution),
        renamed[filled(given, distance_nm, resolution)],
    )


def test_a_distance_counts_in_nanometres_and_ends_where_it_ends():
    given = np.zeros((3, 1, 9), np.uint64)
    given[1, 0, 4] = 7
    row = filled(given, 16, (30, 8, 8))
    assert row[1, 0].tolist() == [0, 0, 7, 7, 7, 7, 7, 0, 0]
    assert not row[[0, 2]].any()
    assert filled(given, 30, (30, 8, 8))[:, 0, 4].tolist() == [7, 7, 7]
    assert fill_halo(16, (30, 8, 8)) == (0, 2, 2)
    assert fill_halo(46, (30, 9.2, 9.2)) == (1, 5, 5)


def test_impossible_distances_are_errors():
    given = np.zeros((1, 1, 1), np.uint64)
    with pytest.raises(ValueError, match="expected a distance of 0 to 1e"):
        filled(given, -1, (8, 8, 8))
    with pytest.raises(ValueError, match="expected a distance of at most 16384 voxels; got 20000"):
        filled(given, 200, (8, 8, 0.01))
