"""The graph of fragments and its cut: by hand, by law, and against all partitions there are."""

from __future__ import annotations

import itertools
import math
import sys
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volflow.segment.multicut import (
    contacts,
    edge_costs,
    library,
    multicut,
    named_by_last_voxel,
)

pytest.importorskip("bioimage_cpp")


@given(st.integers(0, 1000), st.integers(1, 6))
def test_contacts_are_the_pairs_of_voxels_between_two_fragments(seed, most):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    fragments = rng.integers(0, most + 1, shape).astype(np.uint64)
    boundary = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    for axis in range(3):
        for voxel in np.ndindex(*shape):
            other = tuple(i - (a == axis) for a, i in enumerate(voxel))
            if min(other) >= 0:
                u, v = sorted((int(fragments[voxel]), int(fragments[other])))
                if u and u != v:
                    pairs[u, v].append(int(boundary[(axis, *voxel)]))
    actual = contacts(fragments, boundary)
    assert [tuple(pair) for pair in actual.pairs.tolist()] == sorted(pairs)
    assert actual.size.tolist() == [len(pairs[pair]) for pair in sorted(pairs)]
    mean = [sum(pairs[pair]) / len(pairs[pair]) / 255 for pair in sorted(pairs)]
    np.testing.assert_allclose(actual.boundary, mean, rtol=1e-12)


def test_contacts_of_arrays_that_do_not_belong_together_are_reported():
    with pytest.raises(
        ValueError, match=r"uint8 boundaries of shape \(3, 2, 2, 2\); got uint8 of \(3, 2, 2"
    ):
        contacts(np.ones((2, 2, 2), np.uint64), np.zeros((3, 2, 2, 1), np.uint8))


def test_costs_by_hand():
    # p = 0.001 + 0.998 b: 0.001, 0.5 and 0.999; ln((1 - p) / p) = ln 999, 0, -ln 999;
    # ln((1 - 0.25) / 0.25) = ln 3; contacts of 4, 2 and 1 pairs of at most 4: times 1, 1/2, 1/4
    actual = edge_costs(np.array([0, 0.5, 1]), np.array([4, 2, 1]), 0.25)
    wanted = [math.log(999 * 3), math.log(3) / 2, math.log(3 / 999) / 4]
    np.testing.assert_allclose(actual, wanted, rtol=1e-12)
    np.testing.assert_allclose(edge_costs(np.array([0.5]), np.array([7]), 0.5), [0], atol=1e-12)
    assert edge_costs(np.zeros(0), np.zeros(0, int), 0.5).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(0.01, 0.99))
def test_less_boundary_costs_more_to_cut_and_a_larger_beta_less(boundary, beta):
    weak = np.sort(np.array(boundary))
    size = np.full(len(weak), 3)
    actual = edge_costs(weak, size, beta)
    assert np.isfinite(actual).all()
    assert (np.diff(actual) <= 0).all()
    assert (edge_costs(weak, size, min(0.995, beta + 0.005)) < actual).all()
    np.testing.assert_allclose(edge_costs(1 - weak, size, 1 - beta), -actual, atol=1e-9)


@pytest.mark.parametrize("beta", [0, 1, -0.5, 2])
def test_beta_lies_between_0_and_1(beta):
    with pytest.raises(ValueError, match=f"expected beta between 0 and 1, exclusive; got {beta}"):
        edge_costs(np.array([0.5]), np.array([1]), beta)


# --- the cut -------------------------------------------------------------------------------------


@cache
def partitions(nodes: int) -> np.ndarray:
    """All partitions of so many nodes, one a row: node n is in a part of before, or the next."""
    actual = [[0]]
    for _ in range(nodes - 1):
        actual = [[*row, part] for row in actual for part in range(max(row) + 2)]
    return np.array(actual)


def cost(labels: np.ndarray, pairs: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The sum of the costs of the edges that labels (..., nodes) cut."""
    ends = pairs.astype(int)
    return ((labels[..., ends[:, 0]] != labels[..., ends[:, 1]]) * costs).sum(axis=-1)


def graph(seed: int) -> tuple[int, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(2, 8))
    every = np.array(list(itertools.combinations(range(nodes), 2)), np.uint64)
    pairs = every[rng.random(len(every)) < rng.uniform(0.3, 1)]
    return nodes, pairs, rng.normal(0, 1, len(pairs))


def test_there_are_as_many_partitions_as_bell_says():
    assert [len(partitions(n)) for n in range(1, 8)] == [1, 2, 5, 15, 52, 203, 877]


def test_the_cut_is_nearly_always_the_cheapest_of_all_partitions_and_never_far_off():
    best = 0
    for seed in range(200):
        nodes, pairs, costs = graph(seed)
        actual = multicut(nodes, pairs, costs)
        assert actual.shape == (nodes,)
        reached, least = cost(actual, pairs, costs), cost(partitions(nodes), pairs, costs).min()
        assert least - 1e-9 <= reached <= 1e-9, seed
        best += bool(reached <= least + 1e-9)
        assert reached - least <= 0.25 * -least + 1e-9, seed
    assert best >= 190


def test_moves_between_parts_mend_what_greedy_joining_does():
    """Kernighan-Lin ends below the greedy start on some graphs and above it on none."""
    solver = library("graph").multicut
    better = 0
    for seed in range(200):
        nodes, pairs, costs = graph(seed)
        if not len(pairs):
            continue
        created = library("graph").UndirectedGraph.from_edges(nodes, pairs)
        greedy = solver.GreedyAdditiveMulticut().optimize(solver.MulticutObjective(created, costs))
        ours, theirs = cost(multicut(nodes, pairs, costs), pairs, costs), cost(greedy, pairs, costs)
        assert ours <= theirs + 1e-9
        better += bool(ours < theirs - 1e-9)
    assert better >= 3


@given(st.integers(0, 10_000))
def test_the_same_graph_gives_the_same_parts(seed):
    nodes, pairs, costs = graph(seed)
    np.testing.assert_array_equal(multicut(nodes, pairs, costs), multicut(nodes, pairs, costs))


def test_gain_joins_all_and_loss_joins_none():
    pairs = np.array(list(itertools.combinations(range(6), 2)), np.uint64)
    assert len(np.unique(multicut(6, pairs, np.ones(15)))) == 1
    assert len(np.unique(multicut(6, pairs, -np.ones(15)))) == 6
    assert multicut(3, np.zeros((0, 2), np.uint64), np.zeros(0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("costs", [[1.0], [1.0, math.nan]])
def test_costs_that_are_missing_or_no_numbers_are_reported(costs):
    with pytest.raises(
        ValueError, match=f"expected 2 finite costs, one per edge; got {len(costs)}"
    ):
        multicut(3, np.array([[0, 1], [1, 2]], np.uint64), np.array(costs))


@given(st.integers(0, 1000), st.integers(0, 9))
def test_names_are_the_last_voxel_of_each_label_however_it_was_counted(seed, most):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, most + 1, tuple(rng.integers(1, 6, 3))).astype(np.uint64)
    flat = labels.ravel().tolist()
    last = {label: index + 1 for index, label in enumerate(flat)} | {0: 0}
    actual = named_by_last_voxel(labels)
    assert actual.ravel().tolist() == [last[label] for label in flat]
    recounted = np.where(labels > 0, np.uint64(most + 1) - labels, np.uint64(0))
    np.testing.assert_array_equal(named_by_last_voxel(recounted), actual)


def test_without_the_library_it_is_reported_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimage_cpp.graph", None)
    with pytest.raises(ImportError, match=r"bioimage-cpp is not installed; pip install '\.\["):
        multicut(2, np.array([[0, 1]], np.uint64), np.ones(1))
