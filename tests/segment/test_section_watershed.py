"""The watershed of sections: seeds, what is filled, what is dissolved, and nothing between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.segment.section_watershed import (
    WatershedOptions,
    boundaries,
    section_fragments,
    seeds,
    smooth_distance,
    stack_fragments,
)

pytest.importorskip("bioimage_cpp")


def rooms(*walls: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A section with walls two pixels wide from top to bottom."""
    height = np.zeros(shape)
    for x in walls:
        height[:, x : x + 2] = 1
    return height


def maxima(distance: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """Plateaus without a higher neighbour, pixel by pixel."""
    value = {(int(y), int(x)): distance[y, x] for y, x in np.ndindex(distance.shape)}
    actual, seen = set(), set()
    for start in value:
        if start in seen:
            continue
        todo, plateau, top = [start], {start}, True
        while todo:
            y, x = todo.pop()
            around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            for other in (o for o in around if o in value):
                top &= value[other] <= value[start]
                if value[other] == value[start] and other not in plateau:
                    plateau.add(other)
                    todo.append(other)
        seen |= plateau
        if top:
            actual.add(frozenset(plateau))
    return actual


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8), st.integers(1, 8))
def test_seeds_are_the_plateaus_without_a_higher_neighbour(seed, levels, height, width):
    distance = np.random.default_rng(seed).integers(0, levels, (height, width)).astype(float)
    labels = seeds(distance)
    names = np.unique(labels[labels > 0]).tolist()
    assert names == list(range(1, len(names) + 1))
    actual = {frozenset(map(tuple, np.argwhere(labels == name).tolist())) for name in names}
    assert actual == maxima(distance)


def test_a_seed_is_the_middle_of_a_room():
    labels = seeds(smooth_distance(rooms(19), WatershedOptions()))  # rooms of 19 and of 39 pixels
    # both are open at the borders, where the pixels farthest from the wall are
    assert set(np.nonzero(labels)[1].tolist()) == {0, 59}
    closed = rooms(0, 19, 58)
    closed[:2], closed[-2:] = 1, 1
    labels = seeds(smooth_distance(closed, WatershedOptions()))
    actual = sorted(float(np.nonzero(labels == name)[1].mean()) for name in np.unique(labels)[1:])
    # of columns 2 to 18 and 21 to 57: ridges along columns 10 and 39, one plateau each
    assert actual == pytest.approx([10, 39], abs=1)


def test_what_is_above_the_level_is_a_wall_and_nothing_else():
    faint = 0.5 * rooms(19)
    for level, wall in ((0.4, True), (0.5, False), (0.6, False)):
        actual = smooth_distance(faint, WatershedOptions(level=level))
        wanted = smooth_distance(rooms(19), WatershedOptions()) if wall else np.zeros(faint.shape)
        np.testing.assert_array_equal(actual, wanted)


def test_without_a_share_of_boundary_only_distances_are_flooded():
    height = rooms(24)
    height[:, 20:24] = 0.4  # a wall of columns 20 to 25, highest in the last two
    noise = np.random.default_rng(8).uniform(0, 0.2, height.shape)
    plain, noisy = (
        section_fragments(h, WatershedOptions(share=0)) for h in (height, height + noise)
    )
    np.testing.assert_array_equal(noisy, plain)
    assert len(np.unique(plain)) == 2
    assert len(np.unique(plain[:, :20])) == len(np.unique(plain[:, 26:])) == 1
    with_boundary = section_fragments(height, WatershedOptions())
    ends = [np.count_nonzero(labels[20] == labels[20, 0]) for labels in (plain, with_boundary)]
    assert 20 < ends[0] < ends[1] <= 26  # the middle of the wall, and its highest part


def test_a_wall_parts_two_fragments_and_nothing_else_does():
    labels = section_fragments(rooms(25), WatershedOptions())
    assert sorted(np.unique(labels).tolist()) == [1, 2]
    assert len(np.unique(labels[:, :25])) == len(np.unique(labels[:, 27:])) == 1
    assert labels[0, 0] != labels[0, 59]


@given(st.integers(0, 1000), st.sampled_from([1, 7, 100]))
def test_the_watershed_fills_everything_and_leaves_nothing_small(seed, min_size):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 50, 2))
    height = np.clip(rng.normal(0.3, 0.4, shape), 0, 1)
    labels = section_fragments(height, WatershedOptions(min_size=min_size))
    assert labels.shape == shape
    assert labels.min() >= 1
    sizes = np.unique(labels, return_counts=True)[1]
    assert len(sizes) == 1 or sizes.min() >= min_size


@pytest.mark.parametrize("value", [0.0, 1.0, 0.25])
def test_a_section_without_any_contrast_is_one_fragment(value):
    assert (section_fragments(np.full((20, 30), value), WatershedOptions()) == 1).all()


def test_a_fragment_below_the_limit_goes_to_its_neighbours():
    # the middle room has 8 x 40 = 320 pixels and half of each wall, the others more
    height = rooms(20, 30)
    assert len(np.unique(section_fragments(height, WatershedOptions(min_size=100)))) == 3
    dissolved = section_fragments(height, WatershedOptions(min_size=450))
    assert len(np.unique(dissolved)) == 2
    assert dissolved[0, 0] != dissolved[0, 59]


def test_sections_know_nothing_of_each_other():
    rng = np.random.default_rng(5)
    boundary = rng.integers(0, 256, (3, 4, 30, 40), dtype=np.uint8)
    whole = stack_fragments(boundary)
    count = 0
    for z in range(4):
        alone = stack_fragments(boundary[:, z : z + 1])[0]
        np.testing.assert_array_equal(whole[z], alone + np.uint64(count))
        count += int(alone.max())
    assert np.unique(whole).tolist() == list(range(1, count + 1))
    assert count > 8


def test_outside_the_mask_is_no_fragment_and_inside_nothing_else():
    rng = np.random.default_rng(6)
    boundary = rng.integers(0, 256, (3, 3, 30, 40), dtype=np.uint8)
    mask = np.ones((3, 30, 40), bool)
    mask[0, :, 10:] = False
    mask[1] = False
    labels = stack_fragments(boundary, mask)
    np.testing.assert_array_equal(labels > 0, mask)
    assert np.unique(labels).tolist() == list(range(int(labels.max()) + 1))


def test_boundaries_are_of_pairs_that_exist():
    rng = np.random.default_rng(7)
    affinity = rng.integers(0, 256, (3, 3, 4, 5), dtype=np.uint8)
    mask = rng.random((3, 4, 5)) < 0.7
    before = affinity.copy()
    actual = boundaries(affinity, mask)
    for axis in range(3):
        for voxel in np.ndindex(3, 4, 5):
            other = tuple(i - (a == axis) for a, i in enumerate(voxel))
            real = min(other) >= 0 and mask[voxel] and mask[other]
            assert actual[(axis, *voxel)] == (255 - affinity[(axis, *voxel)] if real else 0)
    np.testing.assert_array_equal(affinity, before)
    with pytest.raises(ValueError, match=r"expected uint8 affinities \(3, Z, Y, X\); got float64"):
        boundaries(affinity.astype(float))
