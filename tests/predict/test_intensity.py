"""Intensities on one scale: percentiles of a histogram, and the map they give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from volflow.predict.intensity import intensity_histogram, intensity_range, normalise


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 5))), st.integers(0, 9))
def test_histograms_of_parts_sum_to_that_of_the_whole(image, cut):
    parts = intensity_histogram(image[:cut]) + intensity_histogram(image[cut:])
    np.testing.assert_array_equal(parts, intensity_histogram(image))
    assert parts.sum() == image.size


@given(
    arrays.arrays(np.uint8, st.integers(2, 200)),
    st.floats(0, 0.5),
    st.floats(0.500001, 1),
)
def test_the_range_is_that_of_the_sorted_voxels(image, low, high):
    ordered = np.sort(image)
    first, last = (ordered[max(1, int(np.ceil(part * image.size))) - 1] for part in (low, high))
    histogram = intensity_histogram(image)
    if first == last:
        with pytest.raises(ValueError, match="constant"):
            intensity_range(histogram, low, high)
    else:
        assert intensity_range(histogram, low, high) == (first, last)


def test_a_few_percent_by_hand():
    # 100 voxels: one of 0, 98 of 7, one of 500. A hundredth of them do not exceed 0, 99 not 7.
    image = np.array([0] + [7] * 98 + [500], np.uint16)
    histogram = intensity_histogram(image)
    assert histogram.shape == (65536,)
    assert intensity_range(histogram, 0.01, 0.99) == (0, 7)
    assert intensity_range(histogram, 0.011, 1.0) == (7, 500)


def test_empty_and_constant_images_are_refused():
    with pytest.raises(ValueError, match="expected at least one voxel, got none"):
        intensity_range(np.zeros(256, np.int64))
    with pytest.raises(ValueError, match="98% of its voxels have the intensity 9"):
        intensity_range(intensity_histogram(np.full((5, 5), 9, np.uint8)))
    with pytest.raises(ValueError, match="low < high"):
        intensity_range(np.ones(256, np.int64), 0.5, 0.5)
    with pytest.raises(ValueError, match="uint8 or uint16 intensities; got float64"):
        intensity_histogram(np.zeros(3))


def test_ends_of_the_range_become_ends_of_the_scale():
    image = np.array([0, 50, 100, 150, 255], np.uint8)
    shown = normalise(image, 50, 150)
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown, [-2, -1, 0, 1, 2])  # 0 and 255 are cut off
    np.testing.assert_allclose(normalise(image, 50, 150, (0, 1), None)[[0, -1]], [-0.5, 2.05])
    assert image[0] == 0  # the input stays as it was
    with pytest.raises(ValueError, match="expected low below high"):
        normalise(image, 5, 5)


@given(arrays.arrays(np.uint16, (4, 6)), st.integers(0, 4))
def test_a_voxel_is_normalised_for_itself(image, cut):
    whole = normalise(image, 10, 300)
    parts = np.concatenate([normalise(image[:cut], 10, 300), normalise(image[cut:], 10, 300)])
    np.testing.assert_array_equal(whole, parts)
