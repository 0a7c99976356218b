"""Joins from the planes of boxes, against one look at all planes at once."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import grids, triples
from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.segment.agglomeration.graph_tables import BlockGraph, with_box
from volflow.segment.agglomeration.horizon import inner_faces, max_open_voxels
from volflow.segment.agglomeration.join_across_planes import (
    PlaneSegments,
    join_across_planes,
    join_nodes,
    name_segments_beyond,
    plane_segments,
)
from volflow.segment.agglomeration.renaming import Renaming

SIDE = (4, 5, 6)  # of a box
Contact = tuple[int, int, int, int, int]  # own segment, segment beyond, axis, affinity sum, voxels


def box_graph(ids: list[int], faces: dict[int, int], contacts: list[Contact]) -> BlockGraph:
    """The graph of a box of some segments, with contacts across its low planes."""
    segment_id = np.array(sorted(ids), np.uint64)
    own, beyond, axis, total, voxels = np.array(contacts, np.int64).reshape(-1, 5).T
    none = np.zeros(0, np.int64)
    return BlockGraph(
        id=segment_id,
        size=np.ones(len(segment_id), np.int64),
        faces=np.array([faces.get(name, 0) for name in segment_id.tolist()], np.uint8),
        component=segment_id,
        a=none.astype(np.int32),
        b=none.astype(np.int32),
        affinity_sum=none,
        contact=none,
        pending_node=np.searchsorted(segment_id, own.astype(np.uint64)).astype(np.int32),
        pending_piece=beyond.astype(np.uint64),
        pending_sum=total,
        pending_contact=voxels,
        pending_kind=axis.astype(np.uint8),
        piece=none.astype(np.uint64),
        piece_node=none.astype(np.int32),
        piece_faces=none.astype(np.uint8),
    )


class Boxes:
    """A grid of boxes with segments, and random contacts between those of neighbours."""

    def __init__(self, draw: random.Random) -> None:
        counts = [draw.choice([1, 2, 3, 3]) for _ in range(3)]
        start = (7, 0, 3)
        stop = [a + n * side for a, n, side in zip(start, counts, SIDE, strict=True)]
        self.grid = BlockGrid(Box(start, tuple(stop)), SIDE)
        names = draw.sample(range(1, 10_000), 5 * len(self.grid))
        self.ids = {block.index: [names.pop() for _ in range(5)] for block in self.grid}
        self.faces: dict[int, int] = defaultdict(int)
        self.contacts: dict[Triple, list[Contact]] = {block.index: [] for block in self.grid}
        for block in self.grid:
            for axis in range(3):
                before = tuple(i - (a == axis) for a, i in enumerate(block.index))
                if before in self.ids:
                    self._touch(draw, block.index, before, axis)

    def _touch(self, draw: random.Random, here: Triple, before: Triple, axis: int) -> None:
        for _ in range(draw.randint(0, 8)):
            own, beyond, voxels = draw.choice(self.ids[here]), draw.choice(self.ids[before]), 2
            total = draw.randint(0, 255 * voxels)
            self.contacts[here].append((own, beyond, axis, total, voxels))
            self.faces[own] |= 1 << (2 * axis)
            self.faces[beyond] |= 2 << (2 * axis)

    def graph(self, block: Block) -> BlockGraph:
        return box_graph(self.ids[block.index], self.faces, self.contacts[block.index])

    def by_reference(self, threshold: float) -> dict[int, int]:
        """The name of each segment, from all contacts at once."""
        edges: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        shared: dict[tuple[int, Triple], int] = defaultdict(int)
        home = {name: index for index, names in self.ids.items() for name in names}
        for contacts in self.contacts.values():
            for own, beyond, _, total, voxels in contacts:
                edges[own, beyond][0] += total
                edges[own, beyond][1] += voxels
                shared[own, home[beyond]] += total
                shared[beyond, home[own]] += total
        name = {each: each for each in home}
        for (u, v), (total, voxels) in edges.items():
            most = max(shared[u, home[v]], shared[v, home[u]])
            if total / (255 * voxels) >= threshold and 2 * total >= most:
                low, high = sorted((name[u], name[v]))
                name = {each: high if other == low else other for each, other in name.items()}
        return name


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_tree_of_boxes_gives_the_components_of_all_planes_at_once(draw: random.Random):
    boxes, threshold = Boxes(draw), draw.choice([0.0, 0.3, 0.6])
    renamings, known = [], {}
    for block in boxes.grid:
        step = join_across_planes(boxes.graph(block), threshold, whole=True)
        renamings.append(
            Renaming(np.sort(np.array(boxes.ids[block.index], np.uint64)), _column(step.component))
        )
        known[block.index] = (plane_segments(step.passed.record(), threshold), block.write)
    first = {block.index: renaming for block, renaming in zip(boxes.grid, renamings, strict=True)}
    ups, grid = [], boxes.grid
    while len(grid) > 1 or not ups:
        above = grid.parent_grid(tuple(draw.choice([1, 2, 3]) for _ in range(3)))
        joined, parents = {}, {}
        for node in above:
            children = draw.sample(grid.children(node), len(grid.children(node)))
            actual = join_nodes([known[child.index] for child in children], node.write)
            check_surface(actual.passed, boxes, node)
            joined[node.index] = (actual.passed, node.write)
            for child, before, after in zip(children, actual.before, actual.after, strict=True):
                parents[child.index] = (node.index, Renaming(before, _column(after)))
        ups.append(parents)
        known, grid = joined, above
    assert all(len(seams.key) == 0 for seams, _ in known.values()), "nothing is beyond the root"
    names = {}
    for index, ids in boxes.ids.items():
        name = first[index](np.array(ids, np.uint64))
        for parents in ups:
            index, renaming = parents[index]
            name = renaming(name)
        names.update(zip(ids, name.tolist(), strict=True))
    assert names == boxes.by_reference(threshold)


def check_surface(seams: PlaneSegments, boxes: Boxes, node: Block) -> None:
    """One row for a segment at the surface of a node, none for what is inside."""
    _, far = inner_faces(node.write, node.bounds, SIDE)
    assert (np.diff(seams.key.astype(np.int64)) > 0).all()
    assert (seams.faces != 0).all()
    assert (seams.faces & ~np.uint8(far) == 0).all()
    inside = {n for child in boxes.grid.children(node) for n in boxes.ids[child.index]}
    assert set(seams.name.tolist()) <= inside


def _column(names: np.ndarray) -> np.ndarray:
    return names[:, None]


def test_two_boxes_by_hand():
    # across the plane 20 touches 10 by 4 voxels and 11 by 2, 21 touches 11 by 2, all at 200 / 255;
    # 10 and 20 share most of what they share with the other box. Half of what 11 shares is with
    # 21, and the other half with 20, for which that is a third.
    contacts = [(20, 10, 2, 800, 4), (20, 11, 2, 400, 2), (21, 11, 2, 400, 2)]
    lower = box_graph([10, 11, 12], {10: 2 << 4, 11: 2 << 4}, [])
    upper = box_graph([20, 21, 22], {20: 1 << 4, 21: 1 << 4}, contacts)
    bounds = Box((0, 0, 0), (4, 4, 8))
    parts = []
    for graph, start in ((lower, 0), (upper, 4)):
        step = join_across_planes(graph, 0.5, whole=True)
        assert step.component.tolist() == graph.id.tolist()
        seams = plane_segments(step.passed.record(), 0.5)
        parts.append((seams, Box((0, 0, start), (4, 4, start + 4))))
    assert parts[0][0].key.tolist() == parts[0][0].name.tolist() == [10, 11]
    assert list(zip(parts[1][0].key, parts[1][0].name, strict=True)) == [(10, 20), (11, 21)]
    joined = join_nodes(parts, bounds)
    assert [names.tolist() for names in joined.before] == [[10, 11], [20, 21]]
    assert [names.tolist() for names in joined.after] == [[20, 21], [20, 21]]
    assert join_across_planes(upper, 0.8, whole=True).passed.record()["key"].tolist() == []


def test_a_part_of_a_box_passes_on_what_touches_its_faces():
    contacts = [(20, 10, 0, 30, 1), (20, 10, 0, 20, 1), (21, 10, 0, 5, 1)]
    graph = box_graph([20, 21, 22, 23], {20: 1, 21: 1, 22: 8}, contacts)
    step = join_across_planes(graph, 0.5, whole=False)
    passed = BlockGraph.from_record(step.passed.record())
    assert passed.id.tolist() == [20, 21, 22]
    assert step.component.tolist() == [20, 21, 22, 23]
    assert passed.pending_sum.tolist() == [50, 5]  # pooled by pair
    alone = plane_segments(with_box(passed.record(), Box((0, 0, 0), (1, 1, 1))), 0.09)
    assert alone.key.tolist() == [10, 22], "a part that is never whole decides alone"


def test_pieces_beyond_a_plane_are_named_by_their_segments_on_that_axis_alone():
    graph = box_graph([20], {20: 5}, [(20, 4, 0, 9, 1), (20, 6, 0, 9, 1), (20, 6, 1, 9, 1)])
    named = name_segments_beyond(graph, 0, np.array([6, 4], np.uint64), np.array([9, 9], np.uint64))
    assert named.pending_piece.tolist() == [9, 9, 6]


@settings(max_examples=40, deadline=None)
@given(grids(), triples(1, 3))
def test_the_most_open_node_is_the_most_open_of_all(grid: BlockGrid, factor: Triple):
    above = grid.parent_grid(factor)
    largest = [min(a, b) for a, b in zip(above.shape, grid.bounds.shape, strict=True)]
    most = 0
    for node in above:
        actual = 0
        for child in grid.children(node):
            near, _ = inner_faces(child.write, child.bounds)
            for axis, side in enumerate(child.write.shape):
                actual += (near >> (2 * axis) & 3).bit_count() * child.write.size // side
        most = max(most, actual)
    assert max_open_voxels(grid, tuple(largest)) == most
