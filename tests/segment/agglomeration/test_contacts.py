"""Contacts are counted once, whichever block counts them."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import random_case
from volflow.core.geometry import BlockGrid
from volflow.segment.agglomeration.block_graph import block_graph, pack_links, unpack_links
from volflow.segment.agglomeration.contacts import number_labels, region_graph


def counted(labels: np.ndarray, affinity: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Edges by a plain loop over slices: (smaller id, larger id): affinity sum, contact."""
    edges: dict[tuple[int, int], list[int]] = {}
    for axis in range(3):
        own = np.moveaxis(labels, axis, 0)
        values = np.moveaxis(affinity[axis], axis, 0)[1:]
        for u, v, value in zip(
            own[1:].ravel().tolist(),
            own[:-1].ravel().tolist(),
            values.ravel().tolist(),
            strict=True,
        ):
            if u and v and u != v:
                edge = edges.setdefault((min(u, v), max(u, v)), [0, 0])
                edge[0] += value
                edge[1] += 1
    return edges


def random_labels(draw: random.Random) -> tuple[np.ndarray, np.ndarray]:
    case = random_case(draw, 400)
    shape = case.affinity.shape[1:]
    rng = np.random.default_rng(draw.getrandbits(32))
    names = rng.integers(0, 2**62, draw.choice([1, 3, 30]), dtype=np.uint64)
    names[0] = 0
    return names[rng.integers(0, len(names), shape)], case.affinity


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_edges_are_those_of_a_plain_loop(draw: random.Random):
    labels, affinity = random_labels(draw)
    graph = region_graph(labels, affinity)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    np.testing.assert_array_equal(graph.id, ids)
    np.testing.assert_array_equal(graph.size, counts)
    actual = {
        (int(graph.id[a]), int(graph.id[b])): [int(total), int(contact)]
        for a, b, total, contact in zip(*graph.edges, strict=True)
    }
    assert actual == counted(labels, affinity)
    assert len(actual) == len(graph.edges.a)


def test_many_labels_are_numbered():
    labels = np.random.default_rng(0).permutation(8**5).astype(np.uint64).reshape(32, 32, 32) * 16
    name, size, numbers = number_labels(labels)
    np.testing.assert_array_equal(name, np.arange(1, 8**5, dtype=np.uint64) * 16)
    np.testing.assert_array_equal(numbers, labels.astype(np.int64) // 16 - 1)
    assert (size == 1).all()


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_edges_by_block_sum_to_edges_of_the_whole(draw: random.Random):
    """Labels are made unlike in different blocks, as pieces are."""
    labels, affinity = random_labels(draw)
    shape = labels.shape
    grid = BlockGrid(random_case(draw).bounds, (1, 1, 1))
    start = grid.bounds.start
    bounds = type(grid.bounds)(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    grid = BlockGrid(bounds, tuple(draw.randint(1, n + 1) for n in shape), (1, 1, 1))
    pieces = labels.copy()
    for number, block in enumerate(grid):
        inside = block.write.within(bounds)
        pieces[inside] = np.where(labels[inside] > 0, labels[inside] % 2**40 + number * 2**40, 0)
    around = np.pad(pieces, 1)
    actual: dict[tuple[int, int], list[int]] = {}
    for block in grid:
        inside = tuple(slice(s.start, s.stop + 2) for s in block.write.within(bounds))
        free = sum(
            (block.write.start[axis] > bounds.start[axis]) << (2 * axis)
            | (block.write.stop[axis] < bounds.stop[axis]) << (2 * axis + 1)
            for axis in range(3)
        )
        links = unpack_links(np.zeros(0, np.uint8), block.write.shape)
        values = affinity[(slice(None), *block.write.within(bounds))]
        graph = block_graph(around[inside], values, links, free)
        edges = [graph.id[graph.a], graph.id[graph.b], graph.affinity_sum, graph.contact]
        pending = [
            graph.id[graph.pending_node],
            graph.pending_piece,
            graph.pending_sum,
            graph.pending_contact,
        ]
        rows = [*zip(*edges, strict=True), *zip(*pending, strict=True)]
        for u, v, total, contact in rows:
            edge = actual.setdefault((int(min(u, v)), int(max(u, v))), [0, 0])
            edge[0] += int(total)
            edge[1] += int(contact)
    assert actual == counted(pieces, affinity)


@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**32 - 1))
def test_links_survive_packing(shape: tuple[int, int, int], seed: int):
    rng = np.random.default_rng(seed)
    z, y, x = shape
    links = tuple(rng.random(side) < 0.5 for side in ((y, x), (z, x), (z, y)))
    for before, after in zip(links, unpack_links(pack_links(links), shape), strict=True):
        np.testing.assert_array_equal(before, after)


def test_links_of_another_block_shape_are_an_error():
    links = unpack_links(np.zeros(0, np.uint8), (4, 4, 4))
    assert not any(face.any() for face in links)
    with pytest.raises(ValueError, match="must use the same blocks"):
        unpack_links(pack_links(links), (8, 8, 8))


def test_labels_and_affinities_of_other_shapes_are_an_error():
    with pytest.raises(ValueError, match="expected affinities of shape"):
        region_graph(np.zeros((4, 4, 4), np.uint64), np.zeros((3, 4, 4, 5), np.uint8))
