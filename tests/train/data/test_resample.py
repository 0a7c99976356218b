"""Volumes in other voxels: what is constant stays so, labels stay labels, and a mean a mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.train.data.resample import resampled_image, resampled_labels, resampled_shape

sides = st.tuples(*[st.integers(1, 12)] * 3)


@settings(max_examples=40)
@given(sides, sides, st.integers(0, 255))
def test_what_is_constant_stays_so(shape, wanted, value):
    image = np.full(shape, value, np.uint8)
    np.testing.assert_array_equal(resampled_image(image, wanted), np.full(wanted, value))


@settings(max_examples=40)
@given(sides, sides, st.integers(0, 99))
def test_labels_stay_labels(shape, wanted, seed):
    labels = np.random.default_rng(seed).choice([0, 7, 2**40], shape).astype(np.uint64)
    actual = resampled_labels(labels, wanted)
    assert (actual.shape, actual.dtype) == (wanted, labels.dtype)
    assert set(np.unique(actual)) <= set(np.unique(labels))


def test_an_object_keeps_its_share_and_its_place():
    labels = np.zeros((4, 30, 40), int)
    labels[:, 6:15, 20:] = 3
    for shape in ((4, 10, 10), (4, 60, 100), (8, 15, 20)):
        actual = resampled_labels(labels, shape)
        assert np.mean(actual == 3) == pytest.approx(0.15, abs=0.03)
        where = np.argwhere(actual == 3).mean(0) / shape
        np.testing.assert_allclose(where, np.argwhere(labels == 3).mean(0) / labels.shape, atol=0.1)


def test_a_coarse_voxel_is_labelled_as_its_middle_is():
    labels = np.random.default_rng(2).integers(0, 9, (3, 9, 10))
    picked = labels[1::3, 1::3, 2::5]
    np.testing.assert_array_equal(resampled_labels(labels, (1, 3, 2)), picked)
    fine = resampled_labels(labels, (3, 18, 30))
    np.testing.assert_array_equal(fine, labels.repeat(2, axis=1).repeat(3, axis=2))


@pytest.mark.parametrize("resampled", [resampled_image, resampled_labels])
def test_a_side_that_stays_is_left_alone(resampled):
    volume = np.random.default_rng(0).integers(0, 255, (3, 4, 5)).astype(np.uint8)
    assert resampled(volume, (3, 4, 5)) is volume


def test_a_coarse_voxel_is_the_mean_of_what_it_covers():
    image = np.random.default_rng(1).integers(0, 60000, (4, 6, 9)).astype(np.uint16)
    boxes = image.reshape(2, 2, 6, 3, 3).mean(axis=(1, 4))
    np.testing.assert_array_equal(resampled_image(image, (2, 6, 3)), np.rint(boxes))
    # 3 voxels become 2: the first is one and a half of them.
    line = np.array([10, 40, 90], np.uint8).reshape(1, 1, 3)
    np.testing.assert_array_equal(resampled_image(line, (1, 1, 2)).ravel(), [20, 73])


def test_between_two_voxels_a_fine_one_is_interpolated():
    line = np.array([10, 50], np.uint8).reshape(1, 1, 2)
    # Middles at -1/4, 1/4, 3/4, 5/4 of the way from one to the other.
    np.testing.assert_array_equal(resampled_image(line, (1, 1, 4)).ravel(), [10, 20, 40, 50])


def test_a_dark_line_does_not_vanish():
    image = np.full((1, 90, 90), 200, np.uint8)
    image[..., 46] = 20  # between the middles of coarse voxels
    assert resampled_image(image, (1, 30, 30)).min() == 140


def test_only_the_axes_that_are_named_and_differ_are_resampled():
    have, want = (50.0, 4.6, 4.0), (30.0, 9.2, 4.3)
    assert resampled_shape((9, 100, 80), have, want, "zyx") == (15, 50, 80)
    assert resampled_shape((9, 100, 80), have, want, "yx") == (9, 50, 80)
    assert resampled_shape((9, 100, 80), want, want, "zyx") == (9, 100, 80)
    assert resampled_shape((9, 1, 80), have, want, "") == (9, 1, 80)
