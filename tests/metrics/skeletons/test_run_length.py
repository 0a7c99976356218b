from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.skeletons.forests import forests, path, told_differently
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.run_length import (
    MergeRule,
    erl,
    expected_run_length,
    group_sums,
    merged_labels,
    run_lengths,
)

UNIT = SkeletonForest.of([path([[0, 0, n] for n in range(5)], 1)])
# A: 10 edges of 100 nm, B: 5 of them far away
PAIR = SkeletonForest.of(
    [path([[0, 0, 100 * n] for n in range(11)], 5), path([[0, 9000, 100 * n] for n in range(6)], 6)]
)
LABELS = np.array([1] * 8 + [2] * 3 + [3] * 6)
ONE = np.where(np.arange(17) == 11, 1, LABELS)  # one node of B in A's segment
THREE = np.where((np.arange(17) >= 11) & (np.arange(17) < 14), 1, LABELS)


@pytest.mark.parametrize(
    ("labels", "each", "connected"),
    [
        ([1, 1, 1, 1, 1], 4.0, 4.0),
        ([1, 1, 1, 2, 2], 1.25, 1.25),  # (2^2 + 1) / 4
        ([1, 1, 1, 1, 2], 2.25, 2.25),
        ([1, 1, 0, 2, 2], 0.5, 0.5),
        ([1, 1, 2, 1, 1], 1.0, 0.5),  # (1 + 1)^2 / 4, or (1 + 1) / 4 as two runs
        ([0, 0, 0, 0, 0], 0.0, 0.0),
    ],
)
def test_a_path_of_unit_edges(labels: list[int], each: float, connected: float) -> None:
    assert erl(UNIT, np.array(labels)).overall == each
    assert erl(UNIT, np.array(labels), connected=True).overall == connected


def test_two_skeletons() -> None:
    actual = erl(PAIR, LABELS)
    # A: (700^2 + 200^2) / 1000, B: 500; together (530 * 1000 + 500 * 500) / 1500
    assert actual.skeletons.tolist() == [530, 500]
    assert actual.overall == 520
    assert actual.maximum == pytest.approx(2500 / 3, abs=1e-9)
    assert actual.ratio == pytest.approx(0.624, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "rule", "tau", "value"),
    [
        (ONE, "nodes", 0, 400 / 3),
        (ONE, "pairs", 7, 400 / 3),  # 8 nodes of A times 1 of B
        (ONE, "pairs", 8, 460),
        (ONE, "nodes", 1, 400 / 3),
        (ONE, "nodes", 2, 460),
        (ONE, "length", 0, 460),  # a stray node has no length
        (THREE, "nodes", 0, 160 / 3),
        (THREE, "length", 199, 160 / 3),
        (THREE, "length", 200, 1220 / 3),  # more than tau, not as much
    ],
)
def test_what_a_merger_is(labels: np.ndarray, rule: MergeRule, tau: float, value: float) -> None:
    assert erl(PAIR, labels, rule=rule, tau=tau).overall == pytest.approx(value, abs=1e-9)


def test_everybody_in_a_merged_segment_loses_the_run() -> None:
    assert erl(PAIR, ONE).skeletons == pytest.approx([40, 320], abs=1e-9)
    forbidden = erl(PAIR, LABELS, forbidden=np.array([3, 0, 77]))
    assert forbidden.skeletons.tolist() == [530, 0]


def test_a_skeleton_without_length_counts_only_as_something_to_merge_with() -> None:
    dot = path([[0, 0, 50]], 9)
    forest = SkeletonForest.of([path([[0, 0, 0], [0, 0, 100]], 1), dot])
    assert erl(forest, np.array([4, 4, 5])).overall == 100
    assert erl(forest, np.array([4, 4, 4])).overall == 0
    alone = erl(SkeletonForest.of([dot]), np.array([1]))
    assert np.isnan([alone.overall, alone.maximum, alone.ratio, *alone.skeletons]).all()
    nothing = erl(SkeletonForest.of([]), np.zeros(0, np.uint64))
    assert np.isnan(nothing.overall)


def test_run_lengths_by_hand() -> None:
    runs = run_lengths(PAIR, ONE)
    assert runs.label.tolist() == [1, 1, 2, 3]
    assert runs.skeleton.tolist() == [0, 1, 0, 1]
    assert runs.length.tolist() == [700, 0, 200, 400]
    assert runs.nodes.tolist() == [8, 1, 3, 5]
    assert (runs.total.tolist(), runs.scale.tolist()) == ([1000, 500], [1000, 500])
    assert runs.find_rows(np.array([1, 0, 1]), np.array([3, 1, 1])).tolist() == [3, 0, 1]


def naive(forest: SkeletonForest, labels: np.ndarray, tau: float) -> float:
    """The formula, word by word, with the rule of nodes."""
    run: dict[tuple[int, int], float] = {}
    nodes: dict[int, dict[int, int]] = {}
    for node, label in enumerate(labels.tolist()):
        owner = int(forest.skeleton[node])
        if label:
            nodes.setdefault(label, {}).setdefault(owner, 0)
            nodes[label][owner] += 1
    total = 0.0
    for node, parent in enumerate(forest.parent.tolist()):
        if parent < 0:
            continue
        length = float(np.linalg.norm(forest.position[node] - forest.position[parent]))
        total += length
        if labels[node] == labels[parent] != 0:
            key = (int(forest.skeleton[node]), int(labels[node]))
            run[key] = run.get(key, 0.0) + length
    squares = 0.0
    for (_, label), length in run.items():
        counts = sorted(nodes[label].values())
        if len(counts) < 2 or counts[-2] < tau:
            squares += length**2
    return squares / total if total else float("nan")


@settings(max_examples=100, deadline=None)
@given(forests(), st.integers(0, 4))
def test_equals_the_formula(drawn: tuple[SkeletonForest, np.ndarray], tau: int) -> None:
    forest, labels = drawn
    actual = erl(forest, labels, rule="nodes", tau=tau).overall
    assert actual == pytest.approx(naive(forest, labels, tau), rel=1e-12, nan_ok=True)


RULES = st.tuples(st.sampled_from(["nodes", "length", "pairs"]), st.sampled_from([0, 1, 3, 150]))


@settings(max_examples=80, deadline=None)
@given(forests(), RULES, st.booleans(), st.integers(0, 2**32))
def test_order_and_names_change_no_bit(
    drawn: tuple[SkeletonForest, np.ndarray],
    rule: tuple[MergeRule, float],
    connected: bool,
    seed: int,
) -> None:
    forest, labels = drawn
    random = np.random.default_rng(seed)
    other, order = told_differently(forest, random)
    names = np.concatenate([[0], random.permutation(9) * 2**59 + 1]).astype(np.uint64)
    how = {"rule": rule[0], "tau": rule[1], "connected": connected}
    first = erl(forest, labels, **how)
    second = erl(other, names[labels[order].astype(np.int64)], **how)
    np.testing.assert_array_equal([first.overall, first.maximum], [second.overall, second.maximum])
    where = [other.names.index(name) for name in forest.names]
    np.testing.assert_array_equal(first.skeletons, second.skeletons[where])


@settings(max_examples=60, deadline=None)
@given(forests(), st.floats(1e-3, 1e3))
def test_scaling_scales(drawn: tuple[SkeletonForest, np.ndarray], factor: float) -> None:
    forest, labels = drawn
    scaled = SkeletonForest(
        forest.names, forest.skeleton, forest.position * factor, forest.parent, forest.radius
    )
    small = erl(forest, labels, rule="length", tau=150)
    large = erl(scaled, labels, rule="length", tau=150 * factor)
    assert large.overall == pytest.approx(small.overall * factor, rel=1e-9, nan_ok=True)
    assert large.ratio == pytest.approx(small.ratio, rel=1e-9, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(forests(), RULES)
def test_tolerance_never_lowers_and_perfection_is_the_most(
    drawn: tuple[SkeletonForest, np.ndarray], rule: tuple[MergeRule, float]
) -> None:
    forest, labels = drawn
    runs = run_lengths(forest, labels)
    none = expected_run_length(runs, np.zeros(0, np.uint64)).overall
    some = erl(forest, labels, rule=rule[0], tau=rule[1])
    classic = erl(forest, labels)
    if np.isnan(none):
        return
    assert classic.overall <= some.overall <= none
    assert none <= some.maximum * (1 + 1e-12)
    # nodes with tau 0 and 1, and pairs with 0, are the classic rule
    for same in (("nodes", 1.0), ("pairs", 0.0)):
        assert erl(forest, labels, rule=same[0], tau=same[1]).overall == classic.overall
    perfect = erl(forest, forest.skeleton + 1)
    assert perfect.overall == pytest.approx(perfect.maximum, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(forests(), st.integers(0, 2**32))
def test_a_split_of_a_segment_without_merger_never_raises_the_score(
    drawn: tuple[SkeletonForest, np.ndarray], seed: int
) -> None:
    forest, labels = drawn
    # every segment within one skeleton: to split a merger may well raise the score
    labels = np.where(labels > 0, labels + 10 * forest.skeleton.astype(np.uint64), 0)
    part = np.random.default_rng(seed).integers(0, 2, len(labels)).astype(np.uint64)
    split = np.where(labels > 0, labels + np.uint64(1000) * part, 0)
    before, after = erl(forest, labels).overall, erl(forest, split).overall
    assert np.isnan(before) or after <= before


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"labels: expected 17, one per node; got shape \(3,\)"):
        erl(PAIR, np.zeros(3, int))
    with pytest.raises(ValueError, match="labels: expected integers of 0 or more; got float64"):
        erl(PAIR, LABELS * 1.0)
    with pytest.raises(ValueError, match="labels: expected integers of 0 or more"):
        erl(PAIR, -LABELS)
    runs = run_lengths(PAIR, LABELS)
    with pytest.raises(ValueError, match="one of length, nodes, pairs; got 'edges'"):
        merged_labels(runs, "edges")  # type: ignore[arg-type]
    for tau in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tau: expected 0 or more"):
            merged_labels(runs, "nodes", tau)
    with pytest.raises(ValueError, match="got connected runs"):
        merged_labels(run_lengths(PAIR, LABELS, connected=True))
    with pytest.raises(ValueError, match="weight: expected 15, one per edge"):
        run_lengths(PAIR, LABELS, weight=np.ones(3))


def test_what_cannot_be_traced() -> None:
    line = path([[0, 0, 0], [0, 0, 1]], 4)
    with pytest.raises(ValueError, match="1 names occur more than once, such as 4"):
        SkeletonForest.of([line, line])
    where, none = np.zeros((4, 3)), np.zeros(4)
    parent = np.array([-1, 0, -1, 2])
    owner = np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"skeleton 9: 1 of 2 nodes have radii that are NaN"):
        SkeletonForest((8, 9), owner, where, parent, np.array([0, 0, 0, np.nan]))
    with pytest.raises(ValueError, match=r"skeleton 8: 2 of 2 nodes have negative radii"):
        SkeletonForest((8, 9), owner, where, parent, np.array([-1.0, -1, 0, 0]))
    with pytest.raises(
        ValueError, match=r"1 edges join two skeletons, such as that of the nodes \[2 1\]"
    ):
        SkeletonForest((8, 9), owner, where, np.array([-1, 0, 1, 2]), none)
    with pytest.raises(ValueError, match="form a cycle"):
        SkeletonForest((8, 9), owner, where, np.array([1, 0, -1, 2]), none)
    with pytest.raises(ValueError, match=r"nodes: expected skeletons 0 to 0"):
        SkeletonForest((8,), owner, where, parent, none)
    with pytest.raises(ValueError, match=r"4 nodes: expected positions \(N, 3\)"):
        SkeletonForest((8, 9), owner, where[:3], parent, none)


def test_sums_are_rounded_once() -> None:
    values = np.array([1e16, 1.0, -1e16, 5.0, 7.0])
    assert group_sums(np.array([0, 0, 0, 2, -1]), values, 4).tolist() == [1.0, 0.0, 5.0, 0.0]
