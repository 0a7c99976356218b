"""Rows of several scales: each block is gathered once, and inputs are those of the whole volume."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage import Grouping, Record
from volflow.engine.phases.group import _blocks_of
from volflow.stages.meshes import Meshes

START = st.tuples(*[st.integers(-20, 20)] * 3)
SHAPE = st.tuples(*[st.integers(1, 60)] * 3)
BLOCK = st.tuples(*[st.integers(7, 30)] * 3)


class Scales(Grouping):
    """Rows of as many scales as asked for."""

    count: int = 3
    factor: Triple = (1, 1, 1)

    def zooms(self, bounds: Box) -> tuple[Triple, ...]:
        return tuple(zyx(self.factor) * 2**level for level in range(self.count))

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("a",)

    def rows(self, block: Block, **inputs: np.ndarray) -> Record:
        return {}


@settings(max_examples=60, deadline=None)
@given(START, SHAPE, BLOCK, st.integers(1, 4), st.sampled_from([(1, 1, 1), (1, 2, 2), (1, 4, 4)]))
def test_each_block_of_each_scale_is_gathered_once(start, shape, block, count, factor) -> None:
    bounds = Box(start, zyx(start) + shape)
    phases = Scales(count=count, factor=factor).phases(BlockGrid(bounds, block))
    gather = next(phase for phase in phases if phase.kind == "gather")
    assert [phase.name for phase in gather.senders] == [
        f"rows.{level}" if level else "rows" for level in range(count)
    ]
    for sender in gather.senders:
        assert sender.grid.bounds == bounds.zoom_out(sender.zoom)
        gathered = Counter(
            tuple(index) for node in gather.grid for index in _blocks_of(sender, gather, node)
        )
        assert gathered == {tuple(block.index): 1 for block in sender.grid}


@settings(max_examples=30, deadline=None)
@given(START, st.tuples(*[st.integers(1, 24)] * 3), st.sampled_from([(1, 2, 2), (2, 4, 4)]))
def test_labels_of_parts_are_those_of_the_whole(start, shape, zoom) -> None:
    """Whatever is read outside the bounds does not count."""
    bounds = Box(start, zyx(start) + shape)
    coarse = bounds.zoom_out(zoom).grow((1, 1, 1))
    whole = coarse.zoom_in(zoom)
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, whole.shape).astype(np.uint64)
    other = random.integers(0, 3, whole.shape).astype(np.uint64)
    inside = bounds.within(whole)
    other[inside] = labels[inside]
    stage = Meshes(resolution=(1.0, 1.0, 1.0))

    def pooled(array: np.ndarray, box: Box) -> np.ndarray:
        block = Block(zyx((0, 0, 0)), box, box, bounds)
        return stage.coarser(block, zoom, labels=array[box.within(whole)])["labels"]

    expected = pooled(labels, whole)
    np.testing.assert_array_equal(pooled(other, whole), expected)
    for place in np.ndindex(coarse.shape):
        box = Box(zyx(place) + coarse.start, zyx(place) + coarse.start + (1, 1, 1)).zoom_in(zoom)
        assert pooled(labels, box).item() == expected[place]
