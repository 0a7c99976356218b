"""The greedy run by hand, against a plain one, and with a part of the graph unknown."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.greedy import agglomerate, merge_greedily, pool_edges


def table(*rows: tuple[int, int, int, int]) -> EdgeTable:
    """Edges from rows of a, b, affinity sum, contact."""
    a, b, affinity_sum, contact = np.array(rows, np.int64).reshape(-1, 4).T
    return EdgeTable(a.astype(np.int32), b.astype(np.int32), affinity_sum, contact)


def merged(edges: EdgeTable, threshold: float, *, size=None, unlocked=(), min_size=0):
    count = 1 + max(edges.a.max(), edges.b.max())
    sizes = np.ones(count, np.int64) if size is None else np.array(size)
    waits = np.isin(np.arange(count), unlocked)
    actual = merge_greedily(sizes, edges, waits, threshold, min_size)
    return actual.cluster.tolist(), actual.waiting.tolist()


def test_pooled_contacts_decide_after_a_merge():
    # 0-1 merge at 200/255. Then 2 touches them with (180 + 20) / 2 = 100, below 127.5
    edges = table((0, 1, 200, 1), (0, 2, 180, 1), (1, 2, 20, 1))
    assert merged(edges, 0.5)[0] == [1, 1, 2]
    assert merged(edges, 0.35)[0] == [2, 2, 2]


def test_of_equal_scores_the_smaller_larger_id_merges_first():
    # all three at 100/255. 0-1 comes first: then (100 + 0) / 2 keeps 2 out. Had 1-2 come first,
    # 0 would be left alone.
    edges = table((1, 2, 100, 1), (0, 1, 100, 1), (0, 2, 0, 1))
    assert merged(edges, 0.3)[0] == [1, 1, 2]


def test_what_would_merge_with_the_unknown_waits_and_so_does_what_waits_for_that():
    edges = table((0, 1, 200, 1), (1, 2, 150, 1), (2, 3, 250, 1), (3, 4, 10, 1))
    cluster, waiting = merged(edges, 0.3, unlocked=[0])
    # 0 is open, 1 waits for it; 2-3 merge first, then wait for 1; 4 has no edge worth merging
    assert cluster == [0, 1, 3, 3, 4]
    assert waiting == [True, True, True, True, False]


def test_only_small_clusters_merge_under_a_size_limit():
    edges = table((0, 1, 200, 1), (1, 2, 150, 1))
    assert merged(edges, 0.1, size=[9, 9, 1], min_size=5)[0] == [0, 2, 2]
    assert merged(edges, 0.1, size=[9, 9, 9], min_size=5)[0] == [0, 1, 2]


def plain(size, edges, threshold, min_size):
    """Merge the best edge, look at all edges again."""
    size = list(size)
    edges = {(max(a, b), min(a, b)): (s, c) for a, b, s, c in edges}
    name = list(range(len(size)))
    while True:
        able = [
            (-s / (255 * c), *pair)
            for pair, (s, c) in edges.items()
            if not min_size or min(size[pair[0]], size[pair[1]]) < min_size
        ]
        if not able or -min(able)[0] < threshold:
            return name
        _, keeps, goes = min(able)
        size[keeps] += size[goes]
        name = [keeps if n == goes else n for n in name]
        pooled = {}
        for pair, (s, c) in edges.items():
            u, v = (keeps if n == goes else n for n in pair)
            if u != v:
                old = pooled.get((max(u, v), min(u, v)), (0, 0))
                pooled[max(u, v), min(u, v)] = (old[0] + s, old[1] + c)
        edges = pooled


def random_graph(draw: random.Random):
    rng = np.random.default_rng(draw.getrandbits(32))
    count = draw.randint(1, 40)
    pairs = rng.integers(0, count, (draw.randint(0, 5 * count), 2))
    contact = rng.integers(1, draw.choice([2, 10]), len(pairs))
    levels = draw.choice([2, 5, 256])
    values = rng.integers(0, levels, len(pairs)) * (255 // (levels - 1)) * contact
    edges = pool_edges(EdgeTable(pairs[:, 0], pairs[:, 1], values, contact))
    return rng.integers(1, 20, count), edges


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_greedy_run_is_that_of_a_plain_one(draw: random.Random):
    size, edges = random_graph(draw)
    threshold, min_size = draw.choice([0.0, 0.2, 0.5, 0.9]), draw.choice([0, 0, 10, 50])
    rows = list(zip(*(column.tolist() for column in edges), strict=True))
    expected = plain(size.tolist(), rows, threshold, min_size)
    free = np.zeros(len(size), bool)
    assert merge_greedily(size, edges, free, threshold, min_size).cluster.tolist() == expected


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_merges_next_to_the_unknown_merges_in_the_end(draw: random.Random):
    """Clusters made while others wait are parts of those of the whole; those that do not wait
    are final."""
    size, edges = random_graph(draw)
    threshold, min_size = draw.choice([0.0, 0.2, 0.5]), draw.choice([0, 10])
    rng = np.random.default_rng(draw.getrandbits(32))
    unlocked = rng.random(len(size)) < draw.choice([0.05, 0.3])
    whole = merge_greedily(size, edges, np.zeros(len(size), bool), threshold, min_size).cluster
    part = merge_greedily(size, edges, unlocked, threshold, min_size)
    assert (whole[part.cluster] == whole).all()
    np.testing.assert_array_equal(part.cluster[~part.waiting], whole[~part.waiting])
    assert part.waiting[unlocked].all()


def test_ids_may_come_in_any_order():
    segment_id = np.array([50, 7, 90], np.uint64)
    one = np.ones(2, np.int64)
    clusters = agglomerate(
        segment_id,
        np.ones(3, np.int64),
        segment_id[[0, 2]],
        segment_id[[1, 1]],
        200 * one,
        one,
        threshold=0.5,
    )
    assert clusters.tolist() == [90, 90, 90]


def test_edges_that_come_twice_are_pooled():
    segment_id = np.array([1, 2], np.uint64)
    low, high = np.array([1, 2], np.uint64), np.array([2, 1], np.uint64)
    sums, one = np.array([200, 0]), np.ones(2, np.int64)
    assert agglomerate(segment_id, one, low, high, sums, one, 0.5).tolist() == [1, 2]
    assert agglomerate(segment_id, one, low, high, sums, one, 0.39).tolist() == [2, 2]


def test_wrong_graphs_are_errors():
    segment_id, one = np.array([1, 2], np.uint64), np.ones(2, np.int64)
    with pytest.raises(ValueError, match="not unique"):
        agglomerate(segment_id[[0, 0]], one, segment_id[:1], segment_id[1:], one[:1], one[:1], 0.5)
    with pytest.raises(ValueError, match="not among the nodes"):
        agglomerate(
            segment_id, one, segment_id[:1], segment_id[1:] + np.uint64(1), one[:1], one[:1], 0.5
        )
    with pytest.raises(ValueError, match="one id and one size"):
        agglomerate(segment_id, one[:1], segment_id[:1], segment_id[1:], one[:1], one[:1], 0.5)
