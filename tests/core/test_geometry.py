from __future__ import annotations

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.strategies import boxes, grids, triples
from volflow.core.geometry import BlockGrid, Box, Triple, zyx
from volflow.core.stage import pyramid


def voxels(box: Box) -> set[Triple]:
    ranges = [range(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    return set(itertools.product(*ranges))


def counted(bounds: Box, parts: list[Box]) -> np.ndarray:
    """Number of the parts that contain each voxel of the bounds."""
    count = np.zeros(bounds.shape, int)
    for part in parts:
        count[part.within(bounds)] += 1
    return count


# --- boxes ---------------------------------------------------------------------------------------


@given(boxes(), boxes())
def test_what_two_boxes_share_is_the_voxels_of_both(one, other):
    assert voxels(one.clip(other)) == voxels(one) & voxels(other)


@given(boxes(), boxes())
def test_a_box_covers_another_if_it_has_all_its_voxels(one, other):
    assert one.covers(other) == (voxels(other) <= voxels(one))


@given(boxes(), triples(0, 3))
def test_size_is_the_number_of_voxels(box, halo):
    assert box.size == len(voxels(box))
    assert box.grow(halo).covers(box)


@given(boxes(1, 6), triples(1, 4))
def test_zooming_out_gives_the_voxels_that_hold_one_of_the_box(box, factor):
    held = {zyx(voxel) // factor for voxel in voxels(box)}
    assert voxels(box.zoom_out(factor)) == held


@given(boxes(), triples(1, 4))
def test_zooming_in_and_out_again_is_the_same_box(box, factor):
    assert box.zoom_in(factor).zoom_out(factor) == box


@given(boxes(), triples(-5, 5))
def test_a_box_within_another_moves_with_it(box, offset):
    around = box.grow((2, 1, 3))
    assert box.shift(offset).within(around.shift(offset)) == box.within(around)
    assert np.zeros(around.shape)[box.within(around)].shape == box.shape


@given(boxes())
def test_a_box_is_read_back_from_its_text(box):
    assert Box.parse(str(box)) == box


@pytest.mark.parametrize("text", ["", "1:2,3:4", "1:2,3:4,5", "a:b,c:d,e:f", "1:2:3,4:5,6:7"])
def test_text_that_is_no_box_is_refused(text):
    with pytest.raises(ValueError, match="expected a box z0:z1,y0:y1,x0:x1"):
        Box.parse(text)


def test_a_triple_of_two_is_refused():
    with pytest.raises(ValueError, match="expected 3"):
        zyx([1, 2])


# --- grids ---------------------------------------------------------------------------------------


@given(grids())
def test_writes_of_a_grid_partition_its_bounds(grid):
    parts = [block.write for block in grid]
    assert len(parts) == len(grid)
    assert_array_equal(counted(grid.bounds, parts), 1)


@given(grids(halo=3))
def test_reads_are_the_writes_and_a_halo_that_bounds_do_not_cut(grid):
    for block in grid:
        assert block.read == block.write.grow(grid.halo)
        array = np.zeros((2, *block.read.shape))
        array[(slice(None), *block.write.within(block.read))] = 1
        assert block.crop(array).shape == (2, *block.write.shape)
        assert block.crop(array).all()


@given(grids(halo=3))
def test_a_star_is_the_reads_voxels_that_leave_the_write_box_along_one_axis(grid):
    for block in itertools.islice(grid, 27):
        count = np.zeros(block.read.shape, int)
        for part in block.star():
            count[part.within(block.read)] += 1
        sides = zip(np.indices(block.read.shape), block.read.start, strict=True)
        outside = sum(
            ((n + first < a) | (n + first >= b)).astype(int)
            for (n, first), a, b in zip(sides, block.write.start, block.write.stop, strict=True)
        )
        assert_array_equal(count, outside <= 1)


@given(grids(halo=3))
def test_half_a_star_is_the_block_and_what_is_on_one_side_of_it(grid):
    for block in itertools.islice(grid, 27):
        whole, before, after = block.star(), block.star(after=False), block.star(before=False)
        assert whole[0] == before[0] == after[0] == block.write
        assert sorted(map(str, before[1:] + after[1:])) == sorted(map(str, whole[1:]))
        for axis in range(3):
            assert before[1 + axis].stop[axis] == block.write.start[axis]
            assert after[1 + axis].start[axis] == block.write.stop[axis]


@given(grids())
def test_numbers_and_indices_of_blocks_are_one_to_one(grid):
    assert [grid.number(grid.index(n)) for n in range(len(grid))] == list(range(len(grid)))
    assert [block.index for block in grid] == list(np.ndindex(*grid.counts))


@given(grids(halo=2))
def test_a_grid_that_was_asked_is_the_same_as_one_that_was_not(grid):
    fresh = BlockGrid(grid.bounds, grid.shape, grid.halo)
    assert len(list(grid)) == len(grid)
    assert (grid, hash(grid), repr(grid)) == (fresh, hash(fresh), repr(fresh))
    other = dataclasses.replace(grid, shape=grid.shape + 9)
    assert other.counts == (1, 1, 1)  # nothing of the first one's is kept
    travelled = pickle.loads(pickle.dumps(grid))
    assert travelled == fresh
    assert list(travelled) == list(fresh)


@given(grids(), st.sampled_from([-1, 0, 7]))
def test_a_block_outside_the_grid_is_an_error(grid, beyond):
    number = -1 if beyond == -1 else len(grid) + beyond
    with pytest.raises(IndexError, match="outside the grid"):
        grid[number]
    with pytest.raises(IndexError, match="outside the grid"):
        grid[grid.counts]


@given(grids())
def test_neighbours_are_the_blocks_that_share_a_face(grid):
    for block in grid:
        grown = [block.write.grow(step) for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
        touching = {
            other.index
            for other in grid
            if other.index != block.index and any(box.clip(other.write).size for box in grown)
        }
        actual = grid.neighbours(block.index)
        assert set(actual) == touching
        assert len(actual) == len(touching)


@given(grids(), triples(1, 3))
def test_children_of_all_parents_are_the_blocks_each_once(grid, factor):
    parents = grid.parent_grid(factor)
    children = [child for parent in parents for child in grid.children(parent)]
    assert sorted(child.index for child in children) == sorted(block.index for block in grid)
    for parent in parents:
        parts = [child.write for child in grid.children(parent)]
        assert_array_equal(counted(parent.write, parts), 1)


def test_a_box_that_is_not_made_of_blocks_has_no_children():
    fine = BlockGrid(Box((0, 0, 0), (9, 9, 9)), (2, 2, 2))
    coarse = BlockGrid(fine.bounds, (3, 3, 3))
    with pytest.raises(ValueError, match="does not start at a block of shape"):
        fine.children(coarse[0, 0, 1])


@given(grids(halo=2))
def test_a_pyramid_goes_from_the_blocks_to_one_and_loses_none(grid):
    tree = pyramid(grid)
    assert (tree[0].bounds, tree[0].shape) == (grid.bounds, grid.shape)
    assert len(tree[-1]) == 1
    for below, here in itertools.pairwise(tree):
        assert sum(len(below.children(node)) for node in here) == len(below)
        assert all(1 <= len(below.children(node)) <= 8 for node in here)


@pytest.mark.parametrize(("shape", "halo"), [((0, 1, 1), (0, 0, 0)), ((1, 1, 1), (0, -1, 0))])
def test_a_grid_of_empty_blocks_or_a_negative_halo_is_refused(shape, halo):
    with pytest.raises(ValueError, match="expected a block of at least 1 voxel and a halo"):
        BlockGrid(Box((0, 0, 0), (4, 4, 4)), shape, halo)
