"""The plain agglomeration that also uses far pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.segmentation.far_contacts import far_sums, join_segments
from volflow.segment.agglomeration.contacts import region_graph
from volflow.segment.agglomeration.greedy import agglomerate


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 255]))
def test_without_far_pairs_it_is_agglomerate(seed, levels):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 30, (5, 6, 7)).astype(np.uint64)
    affinity = rng.integers(0, levels, (3, 5, 6, 7)).astype(np.uint8)
    graph = region_graph(labels, affinity)
    rows = zip(*(column.tolist() for column in graph.edges), strict=True)
    edges = {(low, high): (total, count, 0, 0) for low, high, total, count in rows}
    a, b = graph.id[graph.edges.a], graph.id[graph.edges.b]
    thresholds = (0.002, 0.3, 0.5)
    actual = dict(join_segments(len(graph.id), edges, 0.0, thresholds))
    for threshold in thresholds:
        columns = (graph.id, graph.size, a, b, graph.edges.affinity_sum, graph.edges.contact)
        np.testing.assert_array_equal(graph.id[actual[threshold]], agglomerate(*columns, threshold))


def test_far_pairs_count_once_segments_touch():
    # 0 and 1 touch weakly and 1 and 2 well; far pairs are for 0 with 1, and still more with 2.
    edges = {(0, 1): (10, 1, 510, 4), (1, 2): (250, 1, 0, 0), (0, 2): (0, 0, 4 * 255, 4)}
    actual = dict(join_segments(3, edges, 0.5, (0.3, 0.35, 0.99)))
    assert actual[0.99].tolist() == [0, 1, 2]
    # joined, 1 and 2 are for 0 (10 / 255 + 1530 / 8 / 255) / 2 = 0.39, where 1 alone was 0.27
    assert actual[0.35].tolist() == actual[0.3].tolist() == [2, 2, 2]
    assert dict(join_segments(3, edges, 0.0, (0.3,)))[0.3].tolist() == [0, 2, 2]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_far_sums_are_those_of_pairs_along_the_axes(axis):
    shape = [1, 1, 1]
    shape[axis] = 5
    numbers = np.array([0, 0, 1, -1, 1], np.int32).reshape(shape)
    affinity = np.zeros((3, *shape), np.uint8)
    affinity[axis] = np.array([9, 9, 5, 70, 7]).reshape(shape)
    assert far_sums(numbers, affinity, 2).tolist() == [[0, 1, 5, 1]]
    assert far_sums(numbers, affinity, 4).tolist() == [[0, 1, 7, 1]]
