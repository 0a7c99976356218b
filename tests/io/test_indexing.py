"""Numpy-style indices of a volume are the indices of an array, moved to absolute voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.core.geometry import Box
from volflow.io.indexing import indexed_box

BOUNDS = Box((-3, 10, 0), (4, 15, 6))


def selected(array: np.ndarray, index: object, channels: int) -> np.ndarray:
    """The array that a volume over `BOUNDS` with these voxels gives for an index."""
    box, picks = indexed_box(index, BOUNDS, channels)
    return array[(..., *box.within(BOUNDS))][picks]


def axis_index(low: int, high: int):
    ends = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    return st.one_of(st.integers(low, high - 1), ends.map(lambda pair: slice(*pair)))


@given(st.data(), st.sampled_from([0, 3]))
def test_an_index_selects_what_numpy_selects(data, channels):
    limits = [*([(0, channels)] if channels else []), *zip(BOUNDS.start, BOUNDS.stop, strict=True)]
    array = np.arange(np.prod([high - low for low, high in limits]))
    array = array.reshape([high - low for low, high in limits])
    index = tuple(data.draw(axis_index(low, high)) for low, high in limits)
    moved = tuple(
        slice(part.start - low, part.stop - low) if isinstance(part, slice) else part - low
        for part, (low, _) in zip(index, limits, strict=True)
    )
    np.testing.assert_array_equal(selected(array, index, channels), array[moved])


def test_missing_axes_and_the_ellipsis_are_whole():
    array = np.arange(3 * 7 * 5 * 6).reshape(3, 7, 5, 6)
    for index, same in [
        (..., np.s_[...]),
        (1, np.s_[1]),
        ((slice(0, 2), -3), np.s_[0:2, 0]),
        ((..., slice(2, None)), np.s_[..., 2:]),
        ((2, ..., slice(None, 4)), np.s_[2, ..., :4]),
        ((Ellipsis, 10, 0), np.s_[..., 0, 0]),
    ]:
        np.testing.assert_array_equal(selected(array, index, 3), array[same])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (4, r"axis z: expected voxels within -3:4, got 4 "),
        (np.s_[0:5], r"axis z: expected voxels within -3:4, got 0:5"),
        (np.s_[:, 0:12], r"axis y: expected voxels within 10:15, got 0:12"),
        (np.s_[..., ::2], r"axis x: expected a slice without a step, got step 2"),
        (np.s_[2:1], r"got 2:1"),
        (np.s_[..., ...], "one ellipsis"),
        (np.s_[0, 10, 0, 0], "has 3 axes; got 4"),
    ],
)
def test_an_index_that_leaves_the_volume_is_an_error(index, message):
    with pytest.raises(IndexError, match=message):
        indexed_box(index, BOUNDS, 0)
