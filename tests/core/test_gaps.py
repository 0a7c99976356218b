"""Sections left out: the others are closed up, and each has one z in both ways of counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.core.geometry import Box, Gaps

SECTIONS = st.sets(st.integers(-3, 14), max_size=9)


@given(SECTIONS)
def test_closing_up_deletes_the_sections_and_opening_finds_the_others(sections):
    gaps = Gaps(sections)
    left = [z for z in range(-5, 20) if z not in sections]
    assert [gaps.closed(z) for z in left] == [*range(-5, 20 - len(sections))]
    assert [gaps.opened(gaps.closed(z)) for z in left] == left
    bounds = Box((-5, 1, 2), (20, 3, 4))
    assert gaps.close(bounds) == Box((-5, 1, 2), (20 - len(sections), 3, 4))


@given(SECTIONS, st.integers(-4, 9), st.integers(0, 9))
def test_a_closed_box_is_read_in_contiguous_boxes_of_the_sections_that_are_left(
    sections, start, depth
):
    gaps = Gaps(sections)
    runs = [*gaps.open_runs(Box((start, 1, 2), (start + depth, 3, 4)))]
    actual = [z for run in runs for z in range(run.start[0], run.stop[0])]
    assert actual == [gaps.opened(z) for z in range(start, start + depth)]
    assert all((run.start[1:], run.stop[1:]) == ((1, 2), (3, 4)) for run in runs)
    touching = [a.stop[0] == b.start[0] for a, b in itertools.pairwise(runs)]
    assert not any(touching)


@given(SECTIONS)
def test_the_nearest_section_is_one_that_is_left_and_of_two_the_one_before(sections):
    gaps, bounds = Gaps(sections), Box((-3, 0, 0), (15, 1, 1))
    left = [z for z in range(-3, 15) if z not in sections]
    for z in range(-3, 15):
        if not left:
            with pytest.raises(ValueError, match=r"all sections of .* are left out"):
                gaps.nearest(z, bounds)
            continue
        nearest = min(left, key=lambda other: (abs(other - z), other))
        assert gaps.opened(gaps.nearest(z, bounds)) == nearest


def test_a_gap_of_four_sections_is_filled_from_both_sides():
    gaps = Gaps([5, 3, 4, 6])
    nearest = [gaps.opened(gaps.nearest(z, Box((0, 0, 0), (9, 1, 1)))) for z in range(9)]
    np.testing.assert_array_equal(nearest, [0, 1, 2, 2, 2, 7, 7, 7, 8])
