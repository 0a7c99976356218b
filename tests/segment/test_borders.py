"""Borders moved voxel by voxel, against a slow reference that knows each voxel alone."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.segment.borders import FARTHEST, moved_borders


def reference(segments, affinity, brightness):
    """The rule for one voxel at a time, with fractions of 2^-16 as in the module."""

    def neighbours(voxel):
        for axis in range(3):
            for step in (-1, 1):
                other = tuple(i + step * (a == axis) for a, i in enumerate(voxel))
                if all(0 <= i < side for i, side in zip(other, segments.shape, strict=True)):
                    yield other, affinity[(axis, *max(voxel, other))]

    def chosen(voxel):
        own = segments[voxel]
        offers = []
        for other, joined in neighbours(voxel):
            if segments[other]:
                p = (int(joined) + 0.5) / 256
                counts = round(log(p / (1 - p)) * 65536) + round(float(brightness[other]) * 65536)
                offers.append((-counts, segments[other] != own, segments[other]))
        best = min(offers)[2] if own and offers else own
        return best if [offer[2] for offer in offers].count(best) > 1 else own

    actual = [chosen(voxel) for voxel in np.ndindex(*segments.shape)]
    return np.array(actual, np.uint64).reshape(segments.shape)


def drawn(seed, shape=(4, 5, 6), kinds=4):
    """Few ids, few affinities, few brightnesses: many ties."""
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, kinds, shape).astype(np.uint64) * 7
    affinity = rng.choice(np.array([0, 90, 200, 255], np.uint8), (3, *shape))
    return segments, affinity, rng.integers(-2, 3, shape).astype(np.float32) * np.float32(1.5)


@given(st.integers(0, 10_000))
def test_every_voxel_goes_with_the_neighbour_that_counts_most(seed):
    volumes = drawn(seed)
    untouched = [volume.copy() for volume in volumes]
    actual = moved_borders(*volumes)
    np.testing.assert_array_equal(actual, reference(*volumes))
    assert actual is not volumes[0]
    for volume, before in zip(volumes, untouched, strict=True):
        np.testing.assert_array_equal(volume, before)


def test_many_voxels_move_in_what_is_drawn():
    segments, affinity, brightness = drawn(0)
    assert (moved_borders(segments, affinity, brightness) != segments).sum() > 20


def test_the_brighter_side_takes_a_voxel_of_which_the_network_is_in_doubt():
    """Two neurites and between them a membrane two voxels thick, the second of them the darker."""
    image = np.ones((5, 5, 8), np.float32)
    image[..., 3], image[..., 4] = -0.5, -1
    segments = np.full(image.shape, 1, np.uint64)
    segments[..., 4:] = 2
    segments[2, 2, 3] = 2  # cut a voxel too far
    affinity = np.full((3, *image.shape), 128, np.uint8)
    by_affinity = moved_borders(segments, affinity, 0 * image)
    np.testing.assert_array_equal(by_affinity, segments)  # no neighbour counts more than another
    wanted = segments.copy()
    wanted[2, 2, 3] = 1
    np.testing.assert_array_equal(moved_borders(segments, affinity, 6 * image), wanted)


@given(st.integers(0, 1000))
def test_what_has_no_id_neither_grows_nor_shrinks(seed):
    segments, affinity, brightness = drawn(seed, kinds=3)
    actual = moved_borders(segments, affinity, brightness)
    np.testing.assert_array_equal(actual == 0, segments == 0)


@given(st.integers(0, 1000))
def test_no_border_moves_farther_than_a_voxel(seed):
    segments, affinity, brightness = drawn(seed, (2, 3, 8), kinds=2)
    segments[:] = 1
    segments[..., 4:] = 2
    actual = moved_borders(segments, affinity, brightness)
    assert (actual[..., :3] == 1).all()
    assert (actual[..., 5:] == 2).all()


def test_arrays_that_do_not_belong_together_are_reported():
    segments, affinity, brightness = drawn(0)
    with pytest.raises(ValueError, match=r"shape \(4, 5, 6\); got \(3, 4, 5, 5\) and \(4, 5, 6\)"):
        moved_borders(segments, affinity[..., :5], brightness)
    with pytest.raises(ValueError, match=r"got \(3, 4, 5, 6\) and \(4, 5, 5\)"):
        moved_borders(segments, affinity, brightness[..., :5])
    brightness[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="brightness has values that are not finite"):
        moved_borders(segments, affinity, brightness)


def test_a_brightness_beyond_all_is_as_far_as_it_goes():
    segments, affinity, brightness = drawn(3)
    far = np.where(brightness > 0, np.float32(1e30), np.float32(-1e30))
    near = np.where(brightness > 0, np.float32(FARTHEST), np.float32(-FARTHEST))
    np.testing.assert_array_equal(
        moved_borders(segments, affinity, far), moved_borders(segments, affinity, near)
    )
