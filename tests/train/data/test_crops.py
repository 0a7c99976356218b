"""Crops: what is known moves with the image, and two crops in one keep each its own truth."""

import numpy as np
import pytest
import torch

from volflow.train.config.training import Training
from volflow.train.data.augment import NEUTRAL, Augmentation, augmented
from volflow.train.data.crops import _draw_augmented, batch, crop_targets, paste
from volflow.train.data.draw import _every_nth_section, draw_sample
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample, Source
from volflow.train.heads import header_of
from volflow.train.objective import training_loss

SAID = {
    "out": "nowhere",
    "sources": [{"synthetic": {"bounds": "0:32,0:32,0:32"}, "zero": "background"}] * 2,
    "validation": {"source": {"synthetic": {"bounds": "0:32,0:32,0:32"}}},
    "voxel_size_nm": [10, 10, 10],
    "foreground": {},
    "masks": {"organ": {"channels": ["mitochondria", "mitochondria.contour"]}},
    "descriptors": {"sigma_nm": 20},
    "network": {"widths": [2, 2], "pools": [[2, 2, 2]]},
    "tiles": {"input_tile": [16, 16, 16], "halo": [2, 2, 2]},
    "crop": [8, 16, 16],
    "batch": 2,
}
STILL = {
    "contrast": 0, "brightness": 0, "gamma": 0, "section_contrast": 0, "noise": 0, "blurred": 0
}  # fmt: skip


def training(**changes):
    return Training.model_validate({**SAID, **changes})


def placed(shape=(20, 24, 28), **printed):
    """A volume whose image, truth and marks encode each voxel's position."""
    place = np.arange(np.prod(shape)).reshape(shape)
    marks = np.stack([place % 2, place // 2 % 2, place // 4 % 2]).astype(np.uint8)
    return Source(place.astype(np.float32), place.astype(np.int32) + 1, marks=marks, **printed)


def bits(image):
    place = image.astype(np.int64)
    return np.stack([place % 2, place // 2 % 2, place // 4 % 2])


@pytest.mark.parametrize("printed", [{}, {"sections": (1, 3)}, {"flat": True}])
def test_marks_stay_on_the_image(printed):
    how = Augmentation(**STILL, misaligned=0.5, volume_end_fraction=0.5)
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sample = augmented(draw_sample([placed(**printed)], (8, 8, 8), rng), how, rng)
        known = sample.truth != UNKNOWN
        np.testing.assert_array_equal(sample.marks != UNKNOWN_MARK, np.stack([known] * 3))
        np.testing.assert_array_equal(sample.truth[known], sample.image[known] + 1)
        np.testing.assert_array_equal(sample.marks[:, known], bits(sample.image)[:, known])
        seen += known.sum()
    assert 20 * 512 / 3 < seen < 20 * 512


@pytest.mark.parametrize("padding", ["reflect", "symmetric"])
def test_a_volume_ends_in_a_crop_as_the_header_says(padding):
    tiles = {**SAID["tiles"], "padding": padding}
    how = training(
        tiles=tiles, augmentation={**STILL, "volume_end_fraction": 1}, sources=SAID["sources"][:1]
    )
    assert header_of(how).padding == padding
    ends = 0
    for seed in range(20):
        image = _draw_augmented([placed()], how, np.random.default_rng(seed)).image
        for axis in range(3):
            changes = np.abs(np.diff(image, axis=axis)).max(axis=tuple({0, 1, 2} - {axis}))
            ends += (changes == 0).sum()
    assert (ends > 0) == (padding == "symmetric")  # the outermost voxels twice, or once


def test_turned_marks_stay_on_the_image():
    image = np.zeros((40, 40, 40), np.float32)
    image[5:35, 5:35, 5:35] = 1
    source = Source(image, image.astype(np.int32), marks=image[None].astype(np.uint8))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sample = draw_sample([source], (24, 24, 24), rng, rotation=45, scaling=0.3)
        np.testing.assert_array_equal(sample.marks[0] == UNKNOWN_MARK, sample.truth == UNKNOWN)
        known = sample.truth != UNKNOWN
        np.testing.assert_array_equal(sample.marks[0][known], sample.truth[known])


@pytest.mark.parametrize("printed", [{"flat": True}, {"sections": (2, 2)}])
def test_of_a_planar_crop_sections_stay_sections(printed):
    image = np.broadcast_to(np.arange(24, dtype=np.float32)[:, None, None], (24, 24, 24)).copy()
    source = Source(image, image.astype(np.int32) + 1, **printed)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sample = draw_sample([source], (8, 8, 8), rng, rotation=40, scaling=0.2)
        sample = augmented(sample, Augmentation(**STILL), rng)
        assert (np.ptp(sample.image, axis=(1, 2)) == 0).all()
        apart = np.abs(np.diff(sample.image[:, 0, 0]))
        np.testing.assert_array_equal(apart, np.full(7, 2 if "sections" in printed else 1))


def test_sections_are_as_far_apart_as_drawn_and_as_the_source_allows():
    source = placed((10, 8, 8), sections=(1, 4))
    steps = set()
    for seed in range(60):
        sample = draw_sample([source], (4, 8, 8), np.random.default_rng(seed))
        planes = sample.image[:, 0, 0] / 64
        assert sample.section_step == planes[1] - planes[0]
        np.testing.assert_array_equal(np.diff(planes), sample.section_step)
        steps.add(sample.section_step)
    assert steps == {1, 2, 3}  # of 4, a crop would need 13 sections


@pytest.mark.parametrize("sections", [(1, 1), (1, 3)])
def test_crops_are_laid_around_rare_places_as_often_as_reported(sections):
    shape = (20, 64, 64)
    marks = np.zeros((1, *shape), np.uint8)
    marks[0, 3, 60, 2] = marks[0, 12, 0, 33] = 1
    source = Source(
        np.zeros(shape, np.float32), np.ones(shape, np.int32), marks=marks,
        rare=0.5, places=np.argwhere(marks[0]), sections=sections,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    actual = [(draw_sample([source], (4, 8, 8), rng).marks == 1).any() for _ in range(200)]
    # With every third section only, either place may be passed over.
    assert (0.42 if sections == (1, 1) else 0.2) < np.mean(actual) < 0.6


def test_of_thinned_sections_the_places_are_those_that_are_left():
    marks = (np.random.default_rng(0).random((1, 20, 6, 6)) < 0.1).astype(np.uint8)
    empty = np.zeros((20, 6, 6))
    source = Source(
        empty.astype(np.float32), empty.astype(np.int32), marks=marks,
        rare=1, places=np.argwhere(marks[0]), sections=(2, 4),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    for _ in range(20):
        thin, every = _every_nth_section(source, 3, rng)
        assert 20 // every <= len(thin.image) <= -(-20 // every)
        np.testing.assert_array_equal(thin.places, np.argwhere(thin.marks[0]))


def test_a_source_of_which_little_is_known_is_drawn_as_often_as_any():
    dark = Source(np.zeros((8, 8, 8), np.float32), np.full((8, 8, 8), UNKNOWN, np.int32))
    bright = Source(np.ones((8, 8, 8), np.float32), np.ones((8, 8, 8), np.int32), 3.0)
    rng = np.random.default_rng(0)
    values = [draw_sample([dark, bright], (2, 2, 2), rng).number for _ in range(300)]
    assert 0.67 < np.mean(values) < 0.83


def test_of_flat_labels_pairs_along_z_are_unknown():
    sample = draw_sample([placed(flat=True)], (8, 16, 16), np.random.default_rng(0))
    how = training(foreground=None, offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -3], [-1, 0, -1]],
                   masks={"m": {"channels": ["mitochondria"] * 3}})  # fmt: skip
    actual = crop_targets(sample, how)
    known = actual.valid.float().mean((1, 2, 3))
    np.testing.assert_allclose(known, [0, 15 / 16, 13 / 16, 0, 1, 1, 1], rtol=1e-6)
    assert not actual.described.any()
    solid = crop_targets(draw_sample([placed()], (8, 16, 16), np.random.default_rng(0)), how)
    assert solid.valid[0, 1:].all()
    assert solid.described.all()


def test_a_crop_pasted_into_another_brings_all_that_is_known_of_it():
    how = training(offsets=[[0, 0, -1]], foreground=None,
                   masks={"m": {"channels": ["mitochondria"] * 3}})  # fmt: skip
    rng = np.random.default_rng(0)
    one, other = (crop_targets(draw_sample([s], (8, 16, 16), rng), how) for s in
                  (placed(), placed(flat=True)))  # fmt: skip
    window = torch.zeros(16, 16, dtype=torch.bool)
    window[3:9, 5:11] = True
    for mixed, outside, inside in zip(paste(one, other, window.numpy()), one, other, strict=True):
        np.testing.assert_array_equal(mixed[..., window], inside[..., window])
        np.testing.assert_array_equal(mixed[..., ~window], outside[..., ~window])


def test_a_crop_is_mixed_with_another_sources():
    how = training(
        mixing={"cutmix": 1, "window": 5, "other": 1}, foreground=None, descriptors=None,
        offsets=[[0, 0, -1]], masks={"m": {"channels": ["mitochondria"]}},
    )  # fmt: skip
    sources = [
        Source(np.full((8, 16, 16), n, np.float32), np.full((8, 16, 16), UNKNOWN, np.int32),
               marks=np.full((1, 8, 16, 16), n, np.uint8)) for n in (0, 1)
    ]  # fmt: skip
    shares = []
    for number in range(10):
        crops = batch(sources, how, number)
        for target in crops.target[:, -1].float():
            shares.append(float(target.mean()))
    window = 25 / 256
    assert {round(share, 6) for share in shares} == {round(window, 6), round(1 - window, 6)}


def test_frequencies_are_mixed_as_often_as_reported():
    still = {**STILL, "flips": False, "transposed_axes": []}
    plain, mixed = (
        training(mixing={"frequency": chance, "beta": 0}, batch=1, augmentation=still)
        for chance in (0, 0.25)
    )
    grey = np.random.default_rng(0).uniform(-1, 1, (2, 8, 16, 16)).astype(np.float32)
    grey[1] = grey[1] / 4 + 0.7
    marks = np.zeros((3, 8, 16, 16), np.uint8)
    sources = [Source(g, np.ones(g.shape, np.int32), marks=marks) for g in grey]
    changed = 0
    for number in range(80):
        one, other = (batch(sources, how, number).image[0, 0].numpy() for how in (plain, mixed))
        if not np.allclose(one, other, atol=1e-5):
            changed += 1
            partner = grey[int(np.allclose(one, grey[0], atol=1e-5))]
            np.testing.assert_allclose(other.mean((1, 2)), partner.mean((1, 2)), atol=0.15)
    assert 10 <= changed <= 30


def unknown_half(n):
    """A crop of the training above, of whose left half nothing is known."""
    rng = np.random.default_rng(n)
    truth = rng.integers(0, 3, (8, 16, 16)).astype(np.int32)
    marks = rng.integers(0, 2, (3, 8, 16, 16)).astype(np.uint8)
    truth[..., :8], marks[..., :8] = UNKNOWN, UNKNOWN_MARK
    return crop_targets(Sample(np.zeros((8, 16, 16), np.float32), truth, marks), training())


def test_a_voxel_of_which_nothing_is_known_gives_no_gradient():
    crops = type(unknown_half(0))(*(torch.stack(p) for p in zip(unknown_half(0), unknown_half(1),
                                                                strict=True)))  # fmt: skip
    logits = torch.randn(2, 16, 8, 16, 16, requires_grad=True)
    training_loss(logits, training(), crops).backward()
    assert (logits.grad[..., :8] == 0).all()
    by_channel = (logits.grad[..., 9:] != 0).float().mean((0, 2, 3, 4))
    assert (by_channel > 0.2).all()


def test_a_head_that_no_crop_knows_gives_no_gradient_and_the_others_theirs():
    how = training(descriptors=None, offsets=[])
    crops = unknown_half(0)
    crops = crops._replace(valid=crops.valid.clone(), target=crops.target)
    crops.valid[-2:] = False  # the masks
    crops = type(crops)(*(part[None] for part in crops))
    crops = crops._replace(target=crops.target[:, 3:], valid=crops.valid[:, 3:])
    logits = torch.randn(1, 3, 8, 16, 16, requires_grad=True)
    training_loss(logits, how, crops).backward()
    assert (logits.grad[:, 1:] == 0).all()
    assert (logits.grad[:, 0, ..., 8:] != 0).all()


def test_the_last_steps_show_each_voxel_as_it_was_imaged():
    spoilt = {
        "rotation": 20, "scaling": 0.2, "elastic": 1, "noise": 0.4, "blurred": 1, "shifted": 0.5,
        "elastic_spacing": [40, 40, 40], "cutout": 1,
    }  # fmt: skip
    how = training(
        augmentation={**STILL, **spoilt},
        steps=10,
        unaugmented_fraction=0.3,
        masks={},
        foreground=None,
    )
    source = placed((40, 40, 40))
    values = set(source.image.ravel().tolist())
    shown = [
        set(batch([source], how, number).image[0].ravel().tolist()) - {NEUTRAL} <= values
        for number in range(10)
    ]
    assert shown == [False] * 7 + [True] * 3
    blank = sum(float((batch([source], how, n).image == NEUTRAL).sum()) for n in (7, 8, 9))
    assert blank > 0  # what moves nothing goes on


def test_a_part_of_no_steps_changes_no_crop():
    how = training(augmentation={"rotation": 20, "noise": 0.4})
    again = how.model_copy(update={"steps": 40, "unaugmented_fraction": 0.5})
    sources = [placed((40, 40, 40))]
    for one, other in zip(batch(sources, how, 19), batch(sources, again, 19), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batch(sources, how, 20).image, batch(sources, again, 20).image)
