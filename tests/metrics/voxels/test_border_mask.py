from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box
from volflow.metrics.voxels.border_mask import Spacing, border_halo, interior_mask

SPACINGS = [(1.0, 1.0, 1.0), (40.0, 4.0, 4.0), (8.0, 8.0, 8.0), (3.0, 1.0, 2.0), (0.3, 0.1, 0.7)]


@st.composite
def labelled(draw: st.DrawFn) -> np.ndarray:
    """Random labels, coarse or fine, with label 0 among them."""
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.uint64]))
    coarse = draw(hnp.arrays(dtype, draw(triples(1, 4)), elements=st.integers(0, 3)))
    return np.kron(coarse, np.ones(draw(triples(1, 3)), dtype))


def by_scipy(truth: np.ndarray, tolerance: float, spacing: Spacing) -> np.ndarray:
    """The mask from one distance transform per label."""
    actual = np.ones(truth.shape, bool)
    for label in np.unique(truth) if len(np.unique(truth)) > 1 else []:
        same = truth == label
        distance = distance_transform_edt(same, sampling=spacing)
        actual[same] = (distance > tolerance + 1e-9)[same]
    return actual


def test_worked_example() -> None:
    # columns 0-3 are label 1, 4-9 label 2: column 3 and 4 are one voxel from the other label
    truth = np.ones((1, 1, 10), np.uint32)
    truth[..., 4:] = 2
    assert interior_mask(truth, 0).all()
    assert np.flatnonzero(~interior_mask(truth, 1)[0, 0]).tolist() == [3, 4]
    assert np.flatnonzero(~interior_mask(truth, 2.9)[0, 0]).tolist() == [2, 3, 4, 5]
    # one voxel of label 2 in a plane of label 1: sqrt(2) reaches the diagonal, 1 does not
    truth = np.ones((1, 3, 3), np.uint32)
    truth[0, 1, 1] = 2
    assert interior_mask(truth, 1)[0].tolist() == [
        [True, False, True],
        [False] * 3,
        [True, False, True],
    ]
    assert not interior_mask(truth, 1.5).any()


def test_unlabelled_space_makes_borders_and_the_end_of_the_array_makes_none() -> None:
    truth = np.full((5, 5, 5), 7, np.uint64)
    assert interior_mask(truth, 3).all()
    truth[:, :, 0] = 0
    assert interior_mask(truth, 1).any(axis=(0, 1)).tolist() == [False, False, True, True, True]


def test_sections_further_apart_than_the_tolerance_do_not_see_one_another() -> None:
    truth = np.ones((2, 9, 9), np.uint8)
    truth[1] = 2
    assert interior_mask(truth, 25, (40, 4, 4)).all()
    assert not interior_mask(truth, 40, (40, 4, 4)).any()
    assert border_halo(25, (40, 4, 4)) == (0, 6, 6)
    assert border_halo(0.3, (0.1, 0.1, 0.1)) == (2, 2, 2)  # 3 * 0.1 is more than 0.3, in floats
    assert border_halo(40, (40, 4, 4)) == (1, 10, 10)


@given(labelled(), st.sampled_from([0, 0.5, 1, 1.5, 2, 3, 5]), st.sampled_from(SPACINGS))
@example(np.arange(27, dtype=np.uint64).reshape(3, 3, 3), 2, (1.0, 1.0, 1.0))
def test_equal_to_a_distance_transform_per_label(
    truth: np.ndarray, steps: float, spacing: Spacing
) -> None:
    tolerance = steps * min(spacing) * 1.001  # off the lattice: no ties in floats
    np.testing.assert_array_equal(
        interior_mask(truth, tolerance, spacing), by_scipy(truth, tolerance, spacing)
    )


@given(labelled(), st.sampled_from([1, 2, 2.5, 3]), st.sampled_from(SPACINGS), triples(1, 5))
def test_blocks_with_a_halo_of_its_reach_give_the_bytes_of_the_whole(
    truth: np.ndarray, steps: float, spacing: Spacing, shape: tuple[int, int, int]
) -> None:
    tolerance = steps * min(spacing)
    bounds = Box((0, 0, 0), truth.shape)
    whole = interior_mask(truth, tolerance, spacing)
    actual = np.zeros_like(whole)
    for block in BlockGrid(bounds, shape, border_halo(tolerance, spacing)):
        read = block.read.clip(bounds)
        part = interior_mask(truth[read.slices], tolerance, spacing)
        actual[block.write.slices] = part[block.write.within(read)]
    np.testing.assert_array_equal(actual, whole)


@given(labelled(), st.permutations(range(4)), st.sampled_from([1, 2]))
def test_names_and_directions_do_not_matter(
    truth: np.ndarray, names: list[int], tolerance: int
) -> None:
    actual = interior_mask(truth, tolerance)
    renamed = np.array(names, np.uint64)[truth] + np.uint64(2**60)
    np.testing.assert_array_equal(interior_mask(renamed, tolerance), actual)
    np.testing.assert_array_equal(
        interior_mask(truth[::-1, ::-1, ::-1], tolerance)[::-1, ::-1, ::-1], actual
    )
    np.testing.assert_array_equal(interior_mask(truth.T, tolerance).T, actual)


def test_what_is_refused() -> None:
    truth = np.ones((2, 2, 2), np.uint8)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match="tolerance: expected a finite number of 0 or more; got"
        ):
            interior_mask(truth, wrong)
    with pytest.raises(
        ValueError, match=r"spacing: expected three numbers above 0, zyx; got \(0, 4"
    ):
        interior_mask(truth, 1, (0, 4, 4))
    with pytest.raises(ValueError, match=r"three axes zyx; got shape \(2, 2\)"):
        interior_mask(truth[0], 1)
    with pytest.raises(ValueError, match="truth: expected integer labels; got float64"):
        interior_mask(truth / 2, 1)
