"""The parts of a chain: each voxel written once, in the order of the chain, within its slab."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.geometry import BlockGrid, Box, zyx
from volflow.core.stage import Chain, ChainGrid


@st.composite
def chains(draw: st.DrawFn) -> tuple[Chain, Box]:
    class Margins(Chain):
        context_and_margins: tuple[int, int, int]

        @property
        def halo(self) -> tuple[int, int, int]:
            return self.context_and_margins

    start = zyx(draw(st.tuples(*[st.integers(-9, 9)] * 3)))
    bounds = Box(start, start + draw(st.tuples(st.integers(1, 40), *[st.integers(1, 20)] * 2)))
    part = draw(st.integers(1, 7))
    slab = part * draw(st.integers(0, 4))
    stage = Margins(
        slab=slab,
        slab_overlap=draw(st.integers(0, slab)) if slab else 0,
        part=part,
        tile=draw(st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9))),
        reverse=draw(st.booleans()),
        context_and_margins=draw(st.tuples(st.integers(0, 9), *[st.integers(0, 3)] * 2)),
    )
    return stage, bounds


def grids(stage: Chain, bounds: Box) -> list[ChainGrid]:
    """The grids of all phases, in order."""
    phases = stage.phases(BlockGrid(bounds, (64, 64, 64)))
    assert [phase.name for phase in phases] == [f"chain.{n}" for n in range(len(phases))]
    chain_grids = [phase.grid for phase in phases]
    assert all(isinstance(grid, ChainGrid) for grid in chain_grids)
    return chain_grids


@settings(max_examples=60, deadline=None)
@given(chains())
def test_every_part_of_the_plain_grid_belongs_to_one_phase(chain):
    stage, bounds = chain
    plain = BlockGrid(bounds, stage.block_on(bounds, (64, 64, 64)))
    written = Counter()
    for grid in grids(stage, bounds):
        assert len([*grid]) == len(grid) > 0
        for number, block in enumerate(grid):
            assert grid.index(number) == block.index
            assert grid.number(block.index) == number
            assert grid[block.index] == block == pickle.loads(pickle.dumps(grid))[number]
            assert block.write == plain[block.index].write
            written[block.index] += 1
        with pytest.raises(IndexError):
            grid[len(grid)]
    assert written == Counter(block.index for block in plain)


@settings(max_examples=60, deadline=None)
@given(chains())
def test_a_chain_makes_the_sections_of_its_slab_and_overlap_in_order(chain):
    stage, bounds = chain
    first, last = bounds.start[0], bounds.stop[0]
    slab = stage.slab or bounds.shape[0]
    order: dict[tuple[int, int, int], list[int]] = {}
    previous: dict[tuple[int, int, int], object] = {}
    for grid in grids(stage, bounds):
        for block in grid:
            _, y, x = block.index
            key = ((block.write.start[0] - first) // slab, y, x)
            sections = order.setdefault(key, [])
            context = [*stage.context(block)]
            assert context == sections[max(0, len(sections) - stage.halo[0]) :]
            assert grid.previous(block.index) == previous.get(key)
            previous[key] = block.index
            sections += stage.sections(block)
    for (number, _, _), sections in order.items():
        z0 = first + number * slab
        z1 = min(z0 + slab, last)
        expected = [*range(z0, min(z1 + stage.slab_overlap, last))]
        if stage.reverse:
            expected = [*range(max(z0 - stage.slab_overlap, first), z1)][::-1]
        assert sections == expected


@settings(max_examples=60, deadline=None)
@given(chains())
def test_shapes_that_stand_for_all_blocks_have_their_number_and_sizes(chain):
    stage, bounds = chain
    for grid in grids(stage, bounds):
        read, worked = Counter(), Counter()
        for block in grid:
            read[block.read.shape] += 1
            worked[(len(stage.sections(block)), *block.read.shape[1:])] += 1
        assert summed(grid.read_shapes()) == read
        assert summed(grid.made_shapes()) == worked
        assert grid.written == sum(block.write.size for block in grid)


def summed(shapes) -> Counter:
    counter = Counter()
    for count, shape in shapes:
        counter[shape] += count
    return counter


def test_a_slab_of_a_fraction_of_parts_is_refused():
    with pytest.raises(ValueError, match="expected a slab of whole parts of 4, got 6"):
        ChainGrid(Box((0, 0, 0), (9, 9, 9)), (4, 9, 9), slab=6)


def test_a_part_of_another_phase_is_named():
    stage = Chain(slab=8, part=4)
    grid = grids(stage, Box((0, 0, 0), (20, 5, 5)))[1]
    assert [block.index for block in grid] == [(1, 0, 0), (3, 0, 0)]
    with pytest.raises(IndexError, match="another phase of the chain"):
        grid[2, 0, 0]
    np.testing.assert_array_equal(grid.counts, (5, 1, 1))
