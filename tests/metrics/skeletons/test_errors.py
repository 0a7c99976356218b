from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.skeletons.forests import forests, path, told_differently
from tests.metrics.skeletons.test_biology import MITO, NUCLEUS, SPINE
from tests.metrics.skeletons.test_run_length import LABELS, PAIR, THREE
from volflow.metrics.skeletons.errors import merged_segments, omitted_edges, split_edges
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei
from volflow.metrics.skeletons.run_length import merged_labels, run_lengths
from volflow.metrics.skeletons.scores import SkeletonOptions, skeleton_scores


def test_splits_by_hand() -> None:
    # A: segments 1 | 2, B: 1 | 3; A's split parts 700 and 200 nm, B's 200 and 200
    runs = run_lengths(PAIR, THREE)
    actual = split_edges(PAIR, THREE, runs)
    assert actual.length.tolist() == [200, 200]
    assert actual.labels.tolist() == [[1, 2], [1, 3]]
    assert actual.position.tolist() == [[0, 0, 750], [0, 9000, 250]]
    assert [PAIR.names[k] for k in actual.skeleton] == [5, 6]
    assert PAIR.edges[actual.edge].tolist() == [[8, 7], [14, 13]]


def test_the_split_that_parts_most_comes_first() -> None:
    line = SkeletonForest.of([path([[0, 0, 100 * n] for n in range(8)], 1)])
    labels = np.array([2**64 - 1, 7, 7, 7, 9, 9, 9, 0], np.uint64)
    actual = split_edges(line, labels, run_lengths(line, labels))
    assert actual.labels.tolist() == [[7, 9], [7, 2**64 - 1]]
    assert actual.length.tolist() == [200, 0]
    assert omitted_edges(line, labels).tolist() == [False] * 6 + [True]


def test_merges_by_hand() -> None:
    # three parallel lines in segment 1, 1000 nm apart; the third's nodes stand further on
    lines = [
        path([[0, y, 100 * n] for n in range(m)], name)
        for y, m, name in [(0, 4, 30), (1000, 3, 20), (2000, 2, 10)]
    ]
    forest = SkeletonForest.of([*lines, path([[5, 0, 200], [5, 0, 300]], 40)])
    labels = np.array([1] * 9 + [2, 2])
    labels[3] = 2  # the last node of 30 with 40
    runs = run_lengths(forest, labels)
    actual = merged_segments(forest, labels, runs, merged_labels(runs, "length", 150))
    assert [(m.label, m.length, m.counted) for m in actual] == [(1, 300, True), (2, 0, False)]
    first, second = actual
    # 30 and 20 run 200 nm each with 3 nodes each: the smaller name leads
    assert [(p.skeleton, p.length, p.nodes) for p in first.parts] == [
        (20, 200, 3),
        (30, 200, 3),
        (10, 100, 2),
    ]
    assert [p.position for p in first.parts] == [(0, 1000, 0), (0, 0, 0), (0, 2000, 0)]
    assert [(p.skeleton, p.length, p.position) for p in second.parts] == [
        (40, 100, (5, 0, 300)),
        (30, 0, (0, 0, 300)),
    ]
    assert merged_segments(forest, labels, runs, merged_labels(runs), worst=1) == [first]
    by_nodes = merged_segments(forest, labels, runs, merged_labels(runs, "nodes", 0))
    assert [m.counted for m in by_nodes] == [True, True]


def test_all_scores_of_an_example() -> None:
    actual = skeleton_scores(PAIR, LABELS, SkeletonOptions(epsilon=50), mito=MITO)
    assert (actual["erl"], actual["terl"]) == (520, 520)
    assert actual["erl_max"] == pytest.approx(2500 / 3, abs=1e-9)
    assert actual["erl_ratio"] == pytest.approx(0.624, abs=1e-12)
    assert actual["berl"] == pytest.approx(475, abs=1e-9)
    assert actual["nerl"] is actual["nerl_norm"] is actual["nerl_norm_ratio"] is None
    reason = "no nuclei were given"
    assert actual["not_computed"] == {"nerl": reason, "nerl_norm": reason}
    assert (actual["splits"], actual["merges"], actual["merges_classic"]) == (1, 0, 0)
    assert (actual["nodes"], actual["edges"], actual["length_nm"]) == (17, 15, 1500)
    assert (actual["median_edge_nm"], actual["longest_edge_nm"]) == (100, 100)
    assert (actual["omitted_edges"], actual["background_nodes"], actual["segments"]) == (0, 0, 3)
    assert actual["worst_splits"] == [
        {"labels": [1, 2], "length_nm": 200, "position_nm": [0, 0, 750], "skeleton": 5}
    ]
    assert actual["parameters"]["epsilon_nm"] == 50
    assert [row["name"] for row in actual["per_skeleton"]] == [5, 6]
    assert actual["per_skeleton"][0] == {
        "berl": 422.5 + 40,
        "erl": 530,
        "length_nm": 1000,
        "name": 5,
        "omitted_edges": 0,
        "segments": 2,
        "splits": 1,
        "terl": 530,
    }


def test_scores_that_need_more() -> None:
    actual = skeleton_scores(SPINE, np.array([1, 1, 1, 2]), nuclei=NUCLEUS)
    assert actual["nerl"] == pytest.approx(299.717, abs=5e-4)
    assert actual["nerl_norm"] == pytest.approx(2153.566, abs=5e-4)
    assert actual["nerl_max"] == pytest.approx(347.931, abs=5e-4)
    assert actual["not_computed"] == {"berl": "neither mitochondria nor synapses were given"}
    thin = SkeletonForest.of([path([[0, 0, 0], [0, 0, 9]], 1, radius=0)])
    actual = skeleton_scores(thin, np.array([1, 1]), nuclei=NUCLEUS)
    assert actual["not_computed"]["nerl"] == "no skeleton with a nucleus has radii"
    # of two skeletons one has a nucleus: nERL is that one's, out of its own length
    one = Nuclei(np.array([[0, 0, 0], [np.nan] * 3]), np.array([500, np.nan]))
    actual = skeleton_scores(PAIR, LABELS, nuclei=one)
    assert actual["nerl_norm_max"] == pytest.approx(1000, abs=1e-9)
    assert [row["nerl"] is None for row in actual["per_skeleton"]] == [False, True]


def test_a_synapse_vetoes_what_terl_tolerates() -> None:
    synapse = np.arange(17) == 12
    actual = skeleton_scores(PAIR, THREE, synapse=synapse)
    assert actual["terl"] == pytest.approx(1220 / 3, abs=1e-9)
    assert actual["berl"] == pytest.approx(160 / 3, abs=1e-9)
    assert (actual["merges"], actual["merges_classic"]) == (0, 1)
    assert [merge["counted"] for merge in actual["worst_merges"]] == [False]


def test_nothing_to_score_is_reported_as_none() -> None:
    for forest in (SkeletonForest.of([]), SkeletonForest.of([path([[0, 0, 0]], 3)])):
        actual = skeleton_scores(
            forest, np.zeros(len(forest), int), mito=np.zeros(len(forest), bool)
        )
        assert actual["erl"] is actual["terl_max"] is actual["berl_ratio"] is None
        assert json.loads(json.dumps(actual, allow_nan=False)) == actual


@settings(max_examples=60, deadline=None)
@given(forests(), st.integers(0, 2**32))
def test_order_changes_no_byte_of_the_json(
    drawn: tuple[SkeletonForest, np.ndarray], seed: int
) -> None:
    forest, labels = drawn
    random = np.random.default_rng(seed)
    flags = random.random((2, len(forest))) < 0.3
    nuclei = Nuclei(random.random((len(forest.names), 3)) * 500, np.full(len(forest.names), 90.0))
    options = SkeletonOptions(tau=150, charge="both", epsilon=70)
    actual = skeleton_scores(
        forest, labels, options, mito=flags[0], synapse=flags[1], nuclei=nuclei
    )
    other, order = told_differently(forest, random)
    where = [forest.names.index(name) for name in other.names]
    again = skeleton_scores(
        other,
        labels[order],
        options,
        mito=flags[0, order],
        synapse=flags[1, order],
        nuclei=Nuclei(nuclei.centre[where], nuclei.radius[where]),
    )
    text = json.dumps(actual, allow_nan=False)
    assert text == json.dumps(again, allow_nan=False)
    assert list(actual) == sorted(actual)


@settings(max_examples=60, deadline=None)
@given(forests())
def test_every_split_and_merger_is_reported(drawn: tuple[SkeletonForest, np.ndarray]) -> None:
    forest, labels = drawn
    runs = run_lengths(forest, labels)
    ends = labels[forest.edges]
    wanted = [
        (forest.names[forest.skeleton[a]], *sorted(pair))
        for (a, _), pair in zip(forest.edges, ends.tolist(), strict=True)
        if 0 not in pair and pair[0] != pair[1]
    ]
    actual = split_edges(forest, labels, runs)
    reported = [
        (forest.names[s], *pair)
        for s, pair in zip(actual.skeleton, actual.labels.tolist(), strict=True)
    ]
    assert sorted(reported) == sorted(wanted)
    assert (np.diff(actual.length) <= 0).all()
    owners = {
        label: {forest.names[s] for s in forest.skeleton[labels == label]}
        for label in np.unique(labels[labels > 0]).tolist()
    }
    told_merges = merged_segments(forest, labels, runs, merged_labels(runs))
    assert {m.label: {p.skeleton for p in m.parts} for m in told_merges} == {
        label: names for label, names in owners.items() if len(names) > 1
    }
    for merge in told_merges:
        for part in merge.parts:
            own = (labels == merge.label) & (forest.skeleton == forest.names.index(part.skeleton))
            assert list(part.position) in forest.position[own].tolist()
            assert own.sum() == part.nodes
