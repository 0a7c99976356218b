"""Strategies of hypothesis for many tests: boxes, blocks and grids, small enough to enumerate."""

from __future__ import annotations

from hypothesis import strategies as st

from volflow.core.geometry import BlockGrid, Box, Triple, zyx


def triples(low: int, high: int) -> st.SearchStrategy[Triple]:
    """Three integers of a range, both ends included."""
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def boxes(draw: st.DrawFn, smallest: int = 0, largest: int = 6) -> Box:
    """A box anywhere around the origin, its sides in a range."""
    start, shape = draw(triples(-12, 12)), draw(triples(smallest, largest))
    return Box(start, zyx(start) + shape)


@st.composite
def grids(draw: st.DrawFn, halo: int = 0) -> BlockGrid:
    """A grid of blocks from one voxel to more than the bounds."""
    return BlockGrid(draw(boxes(1)), draw(triples(1, 8)), draw(triples(0, halo)))
