"""Many thresholds from one greedy run: by hand, and against runs of their own."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.segment.agglomeration.test_greedy import random_graph, table
from volflow.segment.agglomeration.greedy import merge_greedily
from volflow.segment.agglomeration.thresholds import (
    chosen_column,
    clusters_at_thresholds,
    segment_column,
    thresholds_of,
)

THRESHOLDS = (0.0, 0.2, 0.25, 0.5, 0.75, 0.9, 1.0)


def test_a_run_by_hand_is_cut_where_it_was():
    # 0-1 merge at 200/255 = 0.784. 2 touches both: (180 + 100) / 2 = 140, so it joins at 0.549;
    # 3 touches 2 only, at 51/255 = 0.2 exactly
    edges = table((0, 1, 200, 1), (0, 2, 180, 1), (1, 2, 100, 1), (2, 3, 51, 1))
    merged = merge_greedily(np.ones(4, np.int64), edges, np.zeros(4, bool), 0.1)
    thresholds = (0.1, 0.2, float(np.nextafter(0.2, 1)), 0.54, 0.55, 0.78, 0.79)
    actual = clusters_at_thresholds(merged, thresholds).T.tolist()
    assert actual[0] == actual[1] == [3, 3, 3, 3]
    assert actual[2] == actual[3] == [2, 2, 2, 3]
    assert actual[4] == actual[5] == [1, 1, 2, 3]
    assert actual[6] == [0, 1, 2, 3]


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_each_cut_is_a_run_of_its_own(draw: random.Random):
    size, edges = random_graph(draw)
    chosen = sorted(draw.sample(THRESHOLDS, draw.randint(1, 5)))
    free = np.zeros(len(size), bool)
    actual = clusters_at_thresholds(merge_greedily(size, edges, free, chosen[0]), chosen)
    for threshold, clusters in zip(chosen, actual.T, strict=True):
        alone = merge_greedily(size, edges, free, threshold).cluster
        np.testing.assert_array_equal(clusters, alone)


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_merge_scores_more_than_those_that_made_what_it_merges(draw: random.Random):
    size, edges = random_graph(draw)
    merged = merge_greedily(size, edges, np.zeros(len(size), bool), 0.0)
    for node in np.nonzero(merged.into >= 0)[0]:
        home = merged.into[node]
        if merged.into[home] >= 0:
            assert merged.score[home] <= merged.score[node]
    assert (merged.into >= 0).sum() == len(size) - len(np.unique(merged.cluster))


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_next_to_the_unknown_a_cut_is_part_of_that_of_the_whole(draw: random.Random):
    """And at a threshold at which a waiting cluster is in parts, the parts are final."""
    size, edges = random_graph(draw)
    chosen = sorted(draw.sample(THRESHOLDS, 3))
    rng = np.random.default_rng(draw.getrandbits(32))
    unlocked = rng.random(len(size)) < draw.choice([0.05, 0.3])
    whole = clusters_at_thresholds(
        merge_greedily(size, edges, np.zeros(len(size), bool), chosen[0]), chosen
    )
    merged = merge_greedily(size, edges, unlocked, chosen[0])
    part = clusters_at_thresholds(merged, chosen)
    for column in range(3):
        known, clusters = whole[:, column], part[:, column]
        assert (known[clusters] == known).all()
        parts = clusters != merged.cluster
        parts |= np.isin(merged.cluster, merged.cluster[parts])  # and the one with the name
        np.testing.assert_array_equal(clusters[parts], known[parts])


def test_columns_are_named_by_their_thresholds():
    thresholds = [0.0, 0.1, 1 / 3, float(np.nextafter(0.2, 1)), 1.0]
    columns = ["piece", *map(segment_column, thresholds)]
    assert columns[:3] == ["piece", "segment_0.0", "segment_0.1"]
    assert thresholds_of(columns) == thresholds
    assert thresholds_of(["piece", "segment"]) == []


def test_a_column_is_chosen_by_its_threshold():
    many = ["piece", "segment_0.2", "segment_0.5"]
    assert chosen_column(many, 0.5) == "segment_0.5"
    assert chosen_column(["piece", "segment_0.2"], None) == "segment_0.2"
    assert chosen_column(["piece", "segment"], None) == "segment"
    with pytest.raises(
        ValueError, match=r"threshold 0\.3 is not in the table; the table has segments"
    ):
        chosen_column(many, 0.3)
    with pytest.raises(ValueError, match=r"not given; the table has segments at 0\.2, 0\.5"):
        chosen_column(many, None)
    with pytest.raises(ValueError, match=r"threshold 0\.2 selects one of several"):
        chosen_column(["piece", "segment"], 0.2)
