from __future__ import annotations

import numpy as np
import pytest

from volflow.train.config.sequences import Damage, SequenceShape
from volflow.train.data.samples import Source
from volflow.train.sequences.damage import damaged
from volflow.train.sequences.draw import Sequence, cut, draw_sequence, symmetric
from volflow.train.sequences.objects import followed, section_objects
from volflow.train.sequences.volumes import FollowedVolume

SHAPE = SequenceShape(sections=(3, 5), sides=(32,), objects=3, least_area=4)


def volume(seed: int = 0, depth: int = 9, sections: tuple[int, int] = (1, 1)) -> FollowedVolume:
    """Blocks of labels that drift by a pixel per section, with the affinities of the labels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 60, (12, 12)).repeat(5, 0).repeat(5, 1)
    truth = np.stack([np.roll(coarse, z, 1)[:48, :52] for z in range(depth)]).astype(np.int32)
    image = (truth % 7 / 3 - 1).astype(np.float32)
    offline = {"d": affinities(truth), "m": (truth[None] % 2 * 255).astype(np.uint8)}
    return FollowedVolume(Source(image, truth, sections=sections, name="v"), offline)


def affinities(truth: np.ndarray) -> np.ndarray:
    joined = np.zeros((3, *truth.shape), np.uint8)
    for axis in range(3):
        one, other = (np.moveaxis(a, axis, 0) for a in (truth, joined[axis]))
        other[1:] = (one[1:] == one[:-1]) * np.uint8(255)
    return joined


def whole(sections: list[int]) -> Sequence:
    each = volume()
    pieces = section_objects(each.source.truth[sections[0]], 4)[:3]
    return cut(each, sections, (slice(0, 48), slice(0, 52)), pieces)


def test_pieces_of_labels_are_objects() -> None:
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [2, 0, 1, 0], [-1, -1, 0, 0]])
    pieces = section_objects(labels, 2)
    assert [piece.sum() for piece in pieces] == [2, 3]
    assert (labels[np.any(pieces, axis=0)] == 1).all()


def test_object_is_followed_through_touching_pieces() -> None:
    """A piece that splits stays one object; one that touches nothing is another object."""
    labels = np.zeros((4, 5, 7), int)
    labels[0, 1:4, 1:4] = 5
    labels[1, 2, 0:6:2] = 5
    labels[1, 0, 6] = 5
    labels[2, 2, 0] = labels[2, 4, 6] = 5
    masks = followed(labels, labels[0] == 5)
    assert masks[1].sum() == 3
    assert masks[2].sum() == 1
    assert not masks[3].any()


def test_sequence_is_a_function_of_the_generator() -> None:
    one, other = (draw_sequence([volume()], SHAPE, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.truth, other.truth)
    assert one.image.shape == (len(one.image), 32, 32)
    assert one.truth.any((2, 3))[0].all()


@pytest.mark.parametrize("sections", [[2, 3, 5], [5, 3, 2], [0, 1, 4], [8, 7, 4]])
def test_affinity_along_z_joins_with_the_section_before(sections: list[int]) -> None:
    """Two sections apart: 255 where the label is the same in all sections between."""
    sequence, truth = whole(sections), volume().source.truth
    for n in range(1, len(sections)):
        low, high = sorted(sections[n - 1 : n + 1])
        same = (truth[low : high + 1] == truth[low]).all(0)
        np.testing.assert_array_equal(sequence.offline["d"][n, 0] == 1, same)


def test_flipped_affinities_are_those_of_flipped_labels() -> None:
    for seed in range(12):
        sequence = symmetric(whole([1, 2, 3]), np.random.default_rng(seed))
        labels = np.rint((sequence.image + 1) * 3)
        for axis in (1, 2):
            lines, joined = (
                np.moveaxis(a, axis, 0) for a in (labels, sequence.offline["d"][:, axis])
            )
            # Labels with the same grey value may touch: what is joined is equal.
            assert (lines[1:] == lines[:-1])[joined[1:] == 1].all()
            assert (joined[1:] == 1).mean() > 0.6


def test_truth_and_layers_move_with_the_image() -> None:
    how = Damage(drop=0, offline_noise=0, misaligned=1, contrast=0, brightness=0)
    how = how.model_copy(update={"section_contrast": 0, "noise": 0, "missing": 0, "mask_noise": 0})
    before = whole([1, 2, 3, 4])
    after = damaged(before, how, np.random.default_rng(0))
    assert not np.array_equal(before.image, after.image)
    for n in range(3):
        grey = before.image[0][before.truth[0, n]][0]
        assert (after.image[after.truth[:, n]] == grey).all()
    odd = np.rint((after.image + 1) * 3) % 7
    np.testing.assert_array_equal(before.image[0], after.image[0])
    assert odd.shape == after.offline["m"][:, 0].shape


def test_something_always_marks_the_object() -> None:
    how = Damage(drop=0.5, drop_masks=0.5, drop_filters=0.5)
    drawn = [damaged(whole([1, 2]), how, np.random.default_rng(n)) for n in range(30)]
    assert {(s.masks, s.filters) for s in drawn} == {(True, False), (False, True)}
    assert {len(s.offline) for s in drawn} == {0, 1, 2}


def test_affinities_are_dropped_from_the_input_only_with_previous_masks() -> None:
    how = Damage(drop=0, drop_masks=0.6, drop_filters=0.2, drop_input=0.5)
    drawn = [damaged(whole([1, 2]), how, np.random.default_rng(n)) for n in range(60)]
    seen = {(s.masks, s.affinity_input) for s in drawn}
    assert seen == {(True, True), (False, True), (False, False)}
    assert all("d" in s.offline for s in drawn)  # filters of affinities are fitted all the same


def test_blank_sections_keep_their_truth() -> None:
    how = Damage(missing=1, drop=0)
    after = damaged(whole([1, 2, 3]), how, np.random.default_rng(0))
    assert (after.image[1:] == -1).all()
    assert not after.offline["d"][1:].any()
    assert after.image[0].std() > 0
    assert after.truth[1:].any()


def test_every_nth_section_is_drawn() -> None:
    steps = SHAPE.model_copy(update={"gap_probability": 0.0})
    for seed in range(5):
        sequence = draw_sequence([volume(sections=(3, 3))], steps, np.random.default_rng(seed))
        assert len(sequence.image) == 3  # of nine sections, every third


def test_volume_without_objects_is_reported() -> None:
    each = volume()
    each.source.truth[:] = 0
    with pytest.raises(ValueError, match="v: no object of 4 pixels in 50 random places"):
        draw_sequence([each], SHAPE, np.random.default_rng(0))
