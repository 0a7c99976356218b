"""Augmentation: what moves voxels moves image and truth alike, what spoils the image only it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.core.geometry import Box, zyx
from volflow.predict.tiling import Tiling, tile_input
from volflow.train.data import augment
from volflow.train.data.augment import Augmentation, augmented
from volflow.train.data.samples import UNKNOWN, Sample

STILL = Augmentation(
    flips=False, transposed_axes=(), contrast=0, brightness=0, gamma=0, section_contrast=0,
    noise=0, blurred=0,
)  # fmt: skip


def placed(shape=(6, 7, 8)):
    """A crop whose image and truth encode each voxel's position."""
    place = np.arange(np.prod(shape)).reshape(shape)
    return Sample(place.astype(np.float32), place.astype(np.int32) + 1)


def crop(seed=0, shape=(8, 12, 12)):
    rng = np.random.default_rng(seed)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    return Sample(image, rng.integers(1, 5, shape).astype(np.int32))


@given(st.integers(0, 10_000), st.sampled_from([(5, 5, 5), (4, 6, 6), (3, 4, 5)]))
def test_flips_and_exchanged_axes_keep_truth_on_the_image(seed, shape):
    sample = placed(shape)
    turned = augment.symmetric(sample, True, (0, 1, 2), np.random.default_rng(seed))
    np.testing.assert_array_equal(turned.image + 1, turned.truth)
    assert turned.image.shape == shape
    np.testing.assert_array_equal(np.sort(turned.truth.ravel()), np.sort(sample.truth.ravel()))


def test_all_symmetries_of_a_cube_are_met():
    sample = placed((2, 2, 2))
    rng = np.random.default_rng(0)
    seen = {augment.symmetric(sample, True, (0, 1, 2), rng).image.tobytes() for _ in range(1000)}
    assert len(seen) == 48


@given(st.integers(0, 10_000))
def test_misalignment_moves_image_and_truth_together(seed):
    sample = placed((6, 10, 10))
    moved = augment.misaligned(sample, 3, np.random.default_rng(seed))
    known = moved.truth != UNKNOWN
    np.testing.assert_array_equal(moved.image[known] + 1, moved.truth[known])
    np.testing.assert_array_equal(moved.image[0], sample.image[0])  # the first stays
    assert known.mean() > 0.4


def test_a_missing_section_changes_only_the_image():
    sample = crop()
    result = augmented(sample, STILL.model_copy(update={"missing": 1.0}), np.random.default_rng(0))
    np.testing.assert_array_equal(result.truth, sample.truth)
    blank = [bool(np.ptp(section) == 0) for section in result.image]
    assert sum(blank) == 2  # at most one in four
    remaining = [section for section, gone in enumerate(blank) if not gone]
    np.testing.assert_allclose(result.image[remaining], sample.image[remaining], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"shifted": 1.0},
        {"missing": 1.0},
        {"defects": 1.0},
        {"cutout": 1.0},
        {"section_contrast": 0.1},
        {"contrast": 0.5},
        {"brightness": 0.5},
        {"gamma": 0.5},
        {"noise": 0.5},
        {"blurred": 1.0},
    ],
)
def test_what_spoils_the_image_leaves_the_truth(change):
    sample = crop()
    before = sample.image.copy()
    how = STILL.model_copy(update=change)
    results = [augmented(sample, how, np.random.default_rng(seed)) for seed in range(4)]
    for result in results:
        np.testing.assert_array_equal(result.truth, sample.truth)
        assert result.image.dtype == np.float32
        assert np.isfinite(result.image).all()
    assert any((result.image != before).any() for result in results)
    np.testing.assert_array_equal(sample.image, before)  # the crop itself is not written to


@given(st.integers(0, 10_000), st.sampled_from([(8, 12, 12), (1, 3, 40), (5, 16, 9)]))
def test_cutout_blanks_boxes_and_leaves_all_else(seed, shape):
    image = crop(1, shape).image + 5  # nowhere blank by itself
    result = augment.cutout(image, np.random.default_rng(seed))
    blank = result == augment.NEUTRAL
    np.testing.assert_array_equal(result[~blank], image[~blank])
    sides = [max(1, side // 4) for side in shape]
    assert 1 <= blank.sum() <= augment.BOXES * np.prod(sides)
    for axis, most in enumerate(sides):
        others = tuple(other for other in range(3) if other != axis)
        assert blank.any(axis=others).sum() <= augment.BOXES * most


def test_a_box_that_is_cut_out_may_lie_anywhere():
    rng, image = np.random.default_rng(0), np.ones((4, 8, 8), np.float32)
    often = np.mean([augment.cutout(image, rng) == 0 for _ in range(2000)], axis=0)
    assert often.min() > 0.005
    assert often.max() < 0.5


def test_nothing_asked_for_changes_nothing():
    sample = crop()
    result = augmented(sample, STILL, np.random.default_rng(0))
    np.testing.assert_allclose(result.image, sample.image, atol=1e-6)
    np.testing.assert_array_equal(result.truth, sample.truth)


def test_a_shifted_section_is_the_section_elsewhere():
    image = crop().image
    moved = augment.shifted_sections(image, 1.0, 2, np.random.default_rng(3))
    for before, after in zip(image, moved, strict=True):
        offsets = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        inner = after[2:-2, 2:-2]
        actual = [
            np.array_equal(
                inner, before[2 - y : before.shape[0] - 2 - y, 2 - x : before.shape[1] - 2 - x]
            )
            for y, x in offsets
        ]
        assert sum(actual) == 1


def test_gamma_bends_between_the_ends_and_leaves_what_lies_beyond():
    image = np.array([[[-1.5, -1, 0, 1, 1.7]]], np.float32)
    how = STILL.model_copy(update={"gamma": 1.0})
    deformed = augment.recoloured(image, how, np.random.default_rng(0))
    np.testing.assert_allclose(deformed[0, 0, [0, 1, 3, 4]], image[0, 0, [0, 1, 3, 4]], atol=1e-6)
    assert deformed[0, 0, 2] != 0


@given(st.integers(0, 10_000), st.sampled_from(["reflect", "symmetric"]))
def test_where_the_volume_ends_it_is_mirrored_as_predict_does(seed, padding):
    sample = placed((20, 20, 20))
    shown = augment.end_of_volume(sample, np.random.default_rng(seed), padding)
    known = shown.truth != UNKNOWN
    np.testing.assert_array_equal(shown.image[known] + 1, shown.truth[known])
    inside = np.argwhere(known)
    volume = Box(zyx(inside.min(axis=0)), zyx(inside.max(axis=0) + 1))
    assert np.all(known[volume.slices])
    # A tile whose context reaches over all of the crop, whichever voxel it keeps.
    context = (augment.MIRRORED,) * 3
    tile = zyx([volume.shape[axis] + 2 * augment.MIRRORED for axis in range(3)])
    tiling = Tiling(volume, tile, context, volume.shape, padding)
    actual = tile_input(sample.image[volume.slices], volume, tiling, (0, 0, 0))
    wide = np.pad(actual, 20, mode="edge")
    first = [volume.start[axis] - augment.MIRRORED - 20 for axis in range(3)]
    crop = tuple(slice(-a, 20 - a) for a in first)
    np.testing.assert_array_equal(shown.image, wide[crop])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", ["misaligned", "volume_end_fraction", "symmetric"])
def test_truth_around_moves_with_the_crop(change, seed):
    around = 3
    truth = np.arange(14**3, dtype=np.int32).reshape(14, 14, 14) + 1
    centre = (slice(around, -around),) * 3
    wide = augment.Sample(truth[centre].astype(np.float32), truth)
    rng = np.random.default_rng(seed)
    if change == "symmetric":
        created = augment.symmetric(wide, True, (0, 1, 2), rng)
    elif change == "volume_end_fraction":
        created = augment.end_of_volume(wide, rng)
    else:
        created = augment.misaligned(wide, 2, rng)
    assert created.margin == (3, 3, 3)
    known = created.known != UNKNOWN
    if change == "misaligned":  # the image's edge is repeated where truth comes in from around
        known[:, :2] = known[:, -2:] = known[:, :, :2] = known[:, :, -2:] = False
    assert known.mean() > 0.1
    np.testing.assert_array_equal(created.image[known], created.known[known])
    if change == "symmetric":
        assert set(created.truth.ravel()) == set(truth.ravel())


@pytest.mark.parametrize("seed", range(3))
def test_a_single_section_is_shown_as_predict_shows_it(seed):
    around = 2
    truth = np.arange(12**3, dtype=np.int32).reshape(12, 12, 12) + 1
    inner = truth[(slice(around, -around),) * 3]
    sample = augment.Sample(inner.astype(np.float32), truth, inner[None].astype(np.uint8))
    single = augment.repeated_section(sample, np.random.default_rng(seed))
    assert single.flat
    (z,) = np.flatnonzero((inner == single.image[0]).all(axis=(1, 2)))
    volume = Box(zyx((0, 0, 0)), zyx((1, 8, 8)))
    tiling = Tiling(volume, zyx((8, 8, 8)), zyx((2, 0, 0)), volume.shape, "reflect")
    shown = tile_input(sample.image[z : z + 1], volume, tiling, (0, 0, 0))
    np.testing.assert_array_equal(
        single.image, np.pad(shown, ((0, 8 - len(shown)), (0, 0), (0, 0)), mode="edge")
    )
    np.testing.assert_array_equal(single.image, single.known)
    np.testing.assert_array_equal(single.marks[0], single.known.astype(np.uint8))


def test_single_sections_are_as_frequent_as_asked():
    how = STILL.model_copy(update={"single_section": 0.5})
    rng = np.random.default_rng(0)
    flat = [augmented(crop(), how, rng).flat for _ in range(200)]
    assert 70 < sum(flat) < 130
