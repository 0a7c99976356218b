"""Crops: the same for the same seed, within the volume, image and truth together."""

import numpy as np
import pytest

from volflow.train.data.draw import draw_sample
from volflow.train.data.samples import UNKNOWN, Source, as_truth


def coordinates(shape=(20, 24, 28)):
    """A volume whose image and truth encode each voxel's position."""
    place = np.arange(np.prod(shape)).reshape(shape)
    return Source(place.astype(np.float32), place.astype(np.int32) + 1)


def test_a_crop_is_a_part_of_the_volume():
    source = coordinates()
    starts = set()
    for seed in range(30):
        sample = draw_sample([source], (8, 8, 8), np.random.default_rng(seed))
        np.testing.assert_array_equal(sample.image + 1, sample.truth)
        start = np.unravel_index(int(sample.image[0, 0, 0]), source.image.shape)
        where = tuple(slice(a, a + 8) for a in start)
        np.testing.assert_array_equal(sample.image, source.image[where])
        starts.add(start)
    assert len(starts) > 20


def test_the_same_seed_is_the_same_crop():
    source = coordinates()
    one, other = (
        draw_sample([source], (8, 8, 8), np.random.default_rng([3, 1]), rotation=20, scaling=0.1)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.truth, other.truth)


def test_turned_and_magnified_crops_keep_truth_on_the_image():
    # An object 30 voxels wide, bright: wherever the crop is turned, bright is the object.
    image = np.zeros((40, 40, 40), np.float32)
    image[5:35, 5:35, 5:35] = 1
    source = Source(image, image.astype(np.int32))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sample = draw_sample([source], (24, 24, 24), rng, rotation=45, scaling=0.3)
        known = sample.truth != UNKNOWN
        certain = known & ((sample.image < 0.01) | (sample.image > 0.99))
        assert certain.mean() > 0.5
        np.testing.assert_array_equal(sample.image[certain] > 0.5, sample.truth[certain] == 1)


def test_what_lies_outside_the_volume_is_unknown():
    source = coordinates((16, 16, 16))
    actual = [
        draw_sample([source], (16, 16, 16), np.random.default_rng(seed), known=0, rotation=45)
        for seed in range(5)
    ]
    assert all((sample.truth == UNKNOWN).any() for sample in actual)
    assert all(np.isfinite(sample.image).all() for sample in actual)


def test_sources_are_drawn_by_weight():
    dark, bright = (Source(np.full((4, 4, 4), v), np.ones((4, 4, 4), np.int32), w) for v, w in
                    ((0.0, 1.0), (1.0, 3.0)))  # fmt: skip
    rng = np.random.default_rng(0)
    values = [draw_sample([dark, bright], (2, 2, 2), rng).image.mean() for _ in range(400)]
    assert 0.68 < np.mean(values) < 0.82


def test_crops_without_truth_are_drawn_again():
    truth = np.full((8, 8, 80), UNKNOWN, np.int32)
    truth[..., 40:] = 1
    source = Source(np.zeros(truth.shape, np.float32), truth)
    for seed in range(20):
        sample = draw_sample([source], (8, 8, 8), np.random.default_rng(seed))
        assert np.mean(sample.truth == 1) >= 0.5


@pytest.mark.parametrize("background", [False, True])
def test_labels_become_small_numbers(background):
    labels = np.array([[[0, 7], [2**40, 7]]], np.uint64)
    truth = as_truth(labels, background)
    assert truth.dtype == np.int32
    np.testing.assert_array_equal(truth, [[[0 if background else UNKNOWN, 1], [2, 1]]])
    np.testing.assert_array_equal(as_truth(labels[:, 1:], background), [[[2, 1]]])


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError,
        match=r"labels do not cover the image; expected shape \(2, 2, 3\), got \(2, 2, 2\)",
    ):
        Source(np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 2), np.int32))
    with pytest.raises(ValueError, match=r"expected at most \(20, 24, 28\), got \(30, 8, 8\)"):
        draw_sample([coordinates()], (30, 8, 8), np.random.default_rng(0))


@pytest.mark.parametrize("turned", [{}, {"rotation": 30, "scaling": 0.2}])
def test_truth_around_a_crop_changes_nothing_in_it(turned):
    source, around = coordinates((30, 34, 38)), (4, 0, 7)
    for seed in range(5):
        plain, more = (
            draw_sample([source], (12, 12, 12), np.random.default_rng(seed), margin=a, **turned)
            for a in ((0, 0, 0), around)
        )
        assert more.truth.shape == (20, 12, 26)
        assert more.margin == around
        np.testing.assert_array_equal(more.image, plain.image)
        # Turned, a position between two voxels may fall to the other one.
        assert (more.known == plain.truth).mean() > (0.999 if turned else 0.99999)
        np.testing.assert_array_equal(plain.known, plain.truth)
        beyond = more.truth == UNKNOWN
        assert (more.truth[~beyond] > 0).all()
    start = np.unravel_index(int(more.known[6, 6, 6]) - 1, (30, 34, 38))
    if not turned:
        wide = np.pad(source.truth, [(a, a) for a in around], constant_values=UNKNOWN)
        z, y, x = (int(p) - 6 for p in start)
        np.testing.assert_array_equal(more.truth, wide[z : z + 20, y : y + 12, x : x + 26])
