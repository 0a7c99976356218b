"""The rule of fragments, by hand, by law and against the reference."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import random_case
from tests.reference import Volume, fragment_labels, painted
from volflow.core.geometry import BlockGrid, Box
from volflow.segment.fragments import PAD, fragments, pieces


def row(*across: int) -> np.ndarray:
    """Affinities of a row of voxels along x, one for each pair."""
    affinity = np.zeros((3, 1, 1, len(across) + 1), np.uint8)
    affinity[2, 0, 0, 1:] = across
    return affinity


def test_each_voxel_joins_its_strongest_neighbour():
    # 0-1 at 9 and 2-3 at 8 choose one another; 1-2 at 7 is the strongest of neither
    assert fragments(row(9, 7, 8)).ravel().tolist() == [2, 2, 4, 4]


def test_a_tie_goes_to_the_neighbour_with_the_larger_sum():
    # voxel 2 has 3 to both sides; voxel 1 sums to 4 + 3, voxel 3 to 3 + 5: it joins 3
    assert fragments(row(4, 3, 3, 5)).ravel().tolist() == [2, 2, 5, 5, 5]
    assert fragments(row(5, 3, 3, 4)).ravel().tolist() == [3, 3, 3, 5, 5]


def test_a_tie_of_sums_goes_to_the_first_in_order():
    # voxel 2 has 3 to both sides, and both sum to 7: -x comes before +x
    assert fragments(row(4, 3, 3, 4)).ravel().tolist() == [3, 3, 3, 5, 5]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        # a voxel between two pairs that score 4, one beyond it on each of two axes: the one on
        # the earlier axis, though it comes after on its axis, gets it
        affinity = np.zeros((3, 3, 3, 3), np.uint8)
        for axis in (first, second):
            for place, value in ((1, 3), (2, 4)):
                at = [0, 0, 0]
                at[axis] = place
                affinity[(axis, *at)] = value
        labels = fragments(affinity)
        near = [0, 0, 0]
        near[first] = 1
        far = [0, 0, 0]
        far[second] = 1
        assert labels[0, 0, 0] == labels[tuple(near)] != labels[tuple(far)]


def test_voxels_below_low_are_unlabelled():
    assert fragments(row(9, 3, 0), low=4).ravel().tolist() == [2, 2, 0, 0]
    assert fragments(row(9, 3, 0), low=1).ravel().tolist() == [3, 3, 3, 0]
    # with low 0 the last voxel joins across its only pair, of affinity 0
    assert fragments(row(9, 3, 0), low=0).ravel().tolist() == [4, 4, 4, 4]


def test_a_voxel_without_pairs_is_a_fragment_only_if_low_is_0():
    alone = np.full((3, 1, 1, 1), 200, np.uint8)  # plane 0 of each channel leads nowhere
    assert fragments(alone).item() == 0
    assert fragments(alone, low=0).item() == 1


def test_pairs_at_or_above_high_are_joined_as_well():
    assert fragments(row(9, 7, 8), high=7).ravel().tolist() == [4, 4, 4, 4]
    assert fragments(row(9, 7, 8), high=8).ravel().tolist() == [2, 2, 4, 4]


def test_masked_voxels_have_no_pairs():
    mask = np.array([True, True, False, True]).reshape(1, 1, 4)
    assert fragments(row(9, 10, 8), mask=mask).ravel().tolist() == [2, 2, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_fragments_are_those_of_the_reference(draw: random.Random):
    case = random_case(draw, 200)
    box = case.bounds.shift(tuple(-o for o in case.offset)).slices
    affinity = case.affinity[(slice(None), *box)]
    mask = None if case.mask is None else case.mask[box]
    expected = painted(
        affinity.shape[1:], fragment_labels(Volume(affinity, mask), **case.fragments)
    )
    np.testing.assert_array_equal(fragments(affinity, **case.fragments, mask=mask), expected)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_pieces_and_links_make_up_the_fragments(draw: random.Random):
    case = random_case(draw, 300)
    shape = case.affinity.shape[1:]
    whole = Box(case.offset, tuple(o + n for o, n in zip(case.offset, shape, strict=True)))
    grid = BlockGrid(case.bounds, case.block, (PAD, PAD, PAD))

    def labelled(block):
        read = block.read.clip(whole)
        inside = read.within(whole)
        mask = None if case.mask is None else case.mask[inside]
        part = case.affinity[(slice(None), *inside)]
        return pieces(part, read, block.write, block.bounds, **case.fragments, mask=mask)

    expected = labelled(BlockGrid(case.bounds, case.bounds.shape)[0]).labels
    labels = np.zeros(case.bounds.shape, np.uint64)
    actual = {block.index: labelled(block) for block in grid}
    for block in grid:
        labels[block.write.within(case.bounds)] = actual[block.index].labels
    pairs = []
    for block in grid:
        at = block.write.within(case.bounds)
        for axis, link in enumerate(actual[block.index].links):
            if block.write.start[axis] == case.bounds.start[axis]:
                assert not link.any()
                continue
            here, before = list(at), list(at)
            here[axis] = slice(at[axis].start, at[axis].start + 1)
            before[axis] = slice(at[axis].start - 1, at[axis].start)
            own, other = labels[tuple(here)].squeeze(axis), labels[tuple(before)].squeeze(axis)
            pairs += list(zip(own[link].tolist(), other[link].tolist(), strict=True))
    names = {name: name for name in np.unique(labels).tolist()}
    changed = True
    while changed:
        changed = False
        for u, v in pairs:
            best = max(names[u], names[v])
            changed |= names[u] != best or names[v] != best
            names[u] = names[v] = best
    joined = np.array([names[name] for name in labels.ravel().tolist()], np.uint64)
    np.testing.assert_array_equal(joined.reshape(labels.shape), expected)


def test_what_was_not_read_is_an_error():
    box, write = Box((0, 0, 0), (8, 8, 8)), Box((0, 0, 0), (4, 8, 8))
    affinity = np.zeros((3, 6, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="need affinities of 0:7,0:8,0:8; got 0:6,0:8,0:8"):
        pieces(affinity, Box((0, 0, 0), (6, 8, 8)), write, box)
    with pytest.raises(ValueError, match="expected uint8 affinities of shape"):
        fragments(affinity.astype(np.float32))
