from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.skeletons.forests import forests, path
from tests.metrics.skeletons.test_run_length import LABELS, ONE, PAIR
from volflow.core.skeleton import Skeleton
from volflow.metrics.skeletons.berl import (
    Charge,
    Veto,
    charge_splits,
    default_epsilon,
    vetoed_labels,
)
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei, edge_weights, normalise_weights
from volflow.metrics.skeletons.nodes_at_mitochondria import mito_nodes
from volflow.metrics.skeletons.nodes_at_synapses import Fit, fit_disks, synapse_nodes
from volflow.metrics.skeletons.run_length import (
    erl,
    expected_run_length,
    merged_labels,
    run_lengths,
)

MITO = np.arange(17) == 7  # the last node of A in segment 1


# --- bERL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charge", "epsilon", "value"),
    [
        ("literal", 0, 520),
        ("literal", 50, 475),  # (650^2 + 200^2 + 500^2) / 1500
        ("literal", 100, 1300 / 3),
        ("literal", 400, 760 / 3),
        ("literal", 800, 580 / 3),  # the run ends at 0: (200^2 + 500^2) / 1500
        ("both", 50, 1390 / 3),
        ("both", 100, 1240 / 3),
        ("both", 400, 680 / 3),  # (300^2 + 0 + 500^2) / 1500
    ],
)
def test_a_split_at_a_mitochondrion(charge: Charge, epsilon: float, value: float) -> None:
    runs = run_lengths(PAIR, LABELS)
    dear = charge_splits(runs, PAIR, LABELS, MITO, epsilon=epsilon, charge=charge)
    actual = expected_run_length(dear, merged_labels(runs, "length", 2000)).overall
    assert actual == pytest.approx(value, abs=1e-9)


def test_where_a_mitochondrion_costs_nothing() -> None:
    runs = run_lengths(PAIR, LABELS)
    # inside a run, next to background, or in another skeleton
    inside = np.isin(np.arange(17), [3, 12])
    assert charge_splits(runs, PAIR, LABELS, inside, epsilon=50).length.tolist() == [700, 200, 500]
    gap = np.where(np.arange(17) == 8, 0, LABELS)
    short = charge_splits(run_lengths(PAIR, gap), PAIR, gap, MITO, epsilon=50)
    assert short.length.tolist() == [700, 100, 500]
    # both ends of the split at one: each pays once
    for charge in ("literal", "both"):
        both = np.isin(np.arange(17), [7, 8])
        paid = charge_splits(runs, PAIR, LABELS, both, epsilon=50, charge=charge)  # type: ignore[arg-type]
        assert paid.length.tolist() == [650, 150, 500]


def test_a_synapse_among_the_merged_nodes_is_not_tolerated() -> None:
    runs = run_lengths(PAIR, ONE)
    tolerated = merged_labels(runs, "length", 0)
    assert expected_run_length(runs, tolerated).overall == pytest.approx(460, abs=1e-9)
    stray = vetoed_labels(runs, PAIR, ONE, np.arange(17) == 11)
    assert stray.tolist() == [1]
    assert expected_run_length(runs, stray).overall == pytest.approx(400 / 3, abs=1e-9)


@pytest.mark.parametrize(("veto", "actual"), [("minority", []), ("any", [1])])
def test_a_synapse_of_the_neurite_itself(veto: Veto, actual: list[int]) -> None:
    synapse = np.isin(np.arange(17), [2, 9, 14])  # also in segments of one skeleton
    assert vetoed_labels(run_lengths(PAIR, ONE), PAIR, ONE, synapse, veto=veto).tolist() == actual


def test_nothing_is_the_majority_of_equals() -> None:
    twins = SkeletonForest.of([path([[0, y, 0], [0, y, 9]], y) for y in (1, 500)])
    both = np.array([7, 7, 7, 7])
    for node in range(4):
        synapse = np.arange(4) == node
        assert vetoed_labels(run_lengths(twins, both), twins, both, synapse).tolist() == [7]


@settings(max_examples=60, deadline=None)
@given(forests(), st.integers(0, 2**32))
def test_without_price_and_synapse_it_is_terl(
    drawn: tuple[SkeletonForest, np.ndarray], seed: int
) -> None:
    forest, labels = drawn
    mito = np.random.default_rng(seed).random(len(forest)) < 0.5
    runs = run_lengths(forest, labels)
    merged = merged_labels(runs, "length", 150)
    free = expected_run_length(charge_splits(runs, forest, labels, mito, epsilon=0), merged).overall
    terl = erl(forest, labels, rule="length", tau=150).overall
    np.testing.assert_array_equal(free, terl)
    dear = expected_run_length(
        charge_splits(runs, forest, labels, mito, epsilon=60), merged
    ).overall
    both = charge_splits(runs, forest, labels, mito, epsilon=60, charge="both")
    assert np.isnan(terl) or expected_run_length(both, merged).overall <= dear <= terl
    few = vetoed_labels(runs, forest, labels, mito)
    assert set(few) <= set(vetoed_labels(runs, forest, labels, mito, veto="any"))


def test_default_price_is_two_edges() -> None:
    assert default_epsilon(PAIR) == 200
    assert default_epsilon(SkeletonForest.of([path([[0, 0, 0]], 1)])) == 0


def test_what_does_not_fit() -> None:
    runs = run_lengths(PAIR, LABELS)
    with pytest.raises(ValueError, match="mitochondria: expected 17 booleans, one per node"):
        charge_splits(runs, PAIR, LABELS, MITO[:5], epsilon=1)
    with pytest.raises(ValueError, match="synapses: expected 17 booleans, one per node; got int64"):
        vetoed_labels(runs, PAIR, LABELS, LABELS)
    with pytest.raises(ValueError, match="epsilon: expected 0 nm or more; got -1"):
        charge_splits(runs, PAIR, LABELS, MITO, epsilon=-1)
    with pytest.raises(ValueError, match="one of literal, both; got 'none'"):
        charge_splits(runs, PAIR, LABELS, MITO, epsilon=1, charge="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of minority, any; got 'all'"):
        vetoed_labels(runs, PAIR, LABELS, MITO, veto="all")  # type: ignore[arg-type]
    pieces = run_lengths(PAIR, LABELS, connected=True)
    with pytest.raises(ValueError, match="expected runs per segment, got connected runs"):
        charge_splits(pieces, PAIR, LABELS, MITO, epsilon=1)


# --- nodes at mitochondria and synapses ----------------------------------------------------------


def test_the_tube_by_hand() -> None:
    # one edge along x from 0 to 100, radius 10 at both ends: |along| <= 110, across <= 10
    edge = SkeletonForest.of([path([[0, 0, 0], [0, 0, 100]], 1, radius=10)])
    cases = {
        (0, 0, 50): [True, True],
        (6, 8, 50): [True, True],
        (6, 8.1, 50): [False, False],
        (0, 0, 110): [True, True],
        (0, 0, 111): [False, True],
        (0, 0, -10): [True, True],
        (0, 0, -11): [True, False],
        (0, 0, -111): [False, False],
    }
    for place, wanted in cases.items():
        assert mito_nodes(edge, np.array([place], float)).tolist() == wanted, place


def test_an_edge_without_length_is_a_ball() -> None:
    dots = SkeletonForest.of([path([[0, 0, 0], [0, 0, 0]], 1, radius=10)])
    assert mito_nodes(dots, np.array([[0, 0, 10.0]])).all()
    assert not mito_nodes(dots, np.array([[0, 1, 10.0]])).any()


@settings(max_examples=40, deadline=None)
@given(forests(), st.integers(0, 30), st.integers(0, 2**32))
def test_mito_nodes_as_the_formula(
    drawn: tuple[SkeletonForest, np.ndarray], count: int, seed: int
) -> None:
    forest, _ = drawn
    points = np.random.default_rng(seed).random((count, 3)) * 520 - 60
    wanted = np.zeros(len(forest), bool)
    for edge, length in zip(forest.edges, forest.lengths, strict=True):
        for v, other in (edge, edge[::-1]):
            r = forest.radius[v]
            for u in points - forest.position[v]:
                way = (forest.position[other] - forest.position[v]) / length if length else u * 0
                beside = np.linalg.norm(u - (u @ way) * way)
                wanted[v] |= abs(u @ way) <= length + r and beside <= r
    np.testing.assert_array_equal(mito_nodes(forest, points), wanted)


def square(tilt: float = 0.0) -> np.ndarray:
    """Points of a cleft 200 nm wide around (500, 0, 0), flat in z, then turned about x."""
    y, x = np.mgrid[-100:101:20, -100:101:20].reshape(2, -1).astype(float)
    return np.column_stack([500 + y * np.sin(tilt), y * np.cos(tilt), x])


@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_a_disk_fits_a_flat_cleft(tilt: float) -> None:
    actual = fit_disks(square(tilt), np.zeros(121, int))
    assert actual.centre[0] == pytest.approx([500, 0, 0], abs=1e-9)
    assert actual.radius[0] == pytest.approx(100 * np.sqrt(2), abs=1e-9)
    normal = np.array([np.cos(tilt), -np.sin(tilt), 0])
    assert abs(actual.normal[0] @ normal) == pytest.approx(1, abs=1e-12)


def dots(places: list[tuple[float, float, float]], radius: float) -> SkeletonForest:
    """A skeleton a place, all of one radius."""
    return SkeletonForest.of([path([list(place)], n, radius) for n, place in enumerate(places)])


@pytest.mark.parametrize(
    ("fit", "wanted"),
    [
        # off the plane by at most radius + gap = 90, beyond the rim by at most 30: 171.4
        ("geometric", [True, True, False, True, False, False]),
        # off the plane by at most 141.4 + 30 = 171.4, its foot within 30 of a point
        ("literal", [True, True, True, False, False, False]),
    ],
)
def test_the_disk_by_hand(fit: Fit, wanted: list[bool]) -> None:
    places = [(500, 0, 0), (590, 0, 0), (591, 0, 0), (500, 0, 171), (500, 0, 172), (672, 0, 0)]
    nodes = dots(places, 30)
    assert synapse_nodes(nodes, square(), np.zeros(121, int), fit=fit).tolist() == wanted
    if fit == "geometric":
        actual = synapse_nodes(nodes, square(), np.zeros(121, int), gap_nm=61)
        assert actual.tolist() == [True, True, True, True, False, False]


def test_a_cleft_on_a_line_is_a_ball() -> None:
    line = np.array([[0, 0, x] for x in (-50.0, 0, 50)])
    # radius 50 of the cleft, 30 of the node, 60 of the gap
    nodes = dots([(139, 0, 0), (141, 0, 0), (0, 139, 0), (0, 0, 141)], 30)
    actual = synapse_nodes(nodes, line, np.zeros(3, int))
    assert actual.tolist() == [True, False, True, False]


@settings(max_examples=40, deadline=None)
@given(forests(), st.sampled_from(["geometric", "literal"]), st.integers(0, 2**32))
def test_synapse_nodes_as_the_formula(
    drawn: tuple[SkeletonForest, np.ndarray], fit: Fit, seed: int
) -> None:
    forest, _ = drawn
    random = np.random.default_rng(seed)
    cleft = np.repeat(random.permutation(50)[:3], random.integers(3, 7, 3))
    points = random.random((len(cleft), 3)) * [20, 150, 150] + random.random(3) * 300
    wanted = np.zeros(len(forest), bool)
    for name in np.unique(cleft):
        own = points[cleft == name]
        centre = own.mean(axis=0)
        wide = np.linalg.norm(own - centre, axis=1).max()
        normal = np.linalg.svd(own - centre)[2][2]
        for v, (place, r) in enumerate(zip(forest.position, forest.radius, strict=True)):
            off = (place - centre) @ normal
            foot = place - off * normal
            if fit == "geometric":
                near = abs(off) <= r + 60 and np.linalg.norm(foot - centre) <= wide + r
            else:
                near = abs(off) <= wide + r and np.linalg.norm(foot - own, axis=1).min() <= r
            wanted[v] |= near
    order = random.permutation(len(cleft))
    actual = synapse_nodes(forest, points[order], cleft[order], fit=fit)
    np.testing.assert_array_equal(actual, wanted)


def test_points_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"mitochondria: expected points \(M, 3\)"):
        mito_nodes(PAIR, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="mitochondria: 1 of 2 points are not finite"):
        mito_nodes(PAIR, np.array([[0, 0, 0], [0, np.nan, 0]]))
    with pytest.raises(
        ValueError, match=r"clefts: expected 2 ids, one per point; got shape \(3,\)"
    ):
        synapse_nodes(PAIR, np.zeros((2, 3)), np.zeros(3, int))
    with pytest.raises(ValueError, match="fit: expected one of geometric, literal; got 'svd'"):
        synapse_nodes(PAIR, np.zeros((2, 3)), np.zeros(2, int), fit="svd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gap_nm: expected 0 nm or more"):
        synapse_nodes(PAIR, np.zeros((2, 3)), np.zeros(2, int), gap_nm=-1)
    assert not mito_nodes(PAIR, np.zeros((0, 3))).any()
    assert not synapse_nodes(PAIR, np.zeros((0, 3)), np.zeros(0, int)).any()


# --- nERL ----------------------------------------------------------------------------------------

SPINE = SkeletonForest.of(
    [
        Skeleton(
            1,
            np.array([[0, 0, 0], [1000, 0, 0], [2000, 0, 0], [1000, 500, 0]], float),
            np.array([-1, 0, 1, 1]),
            np.array([400, 100, 100, 50], float),
        )
    ]
)
NUCLEUS = Nuclei(np.zeros((1, 3)), np.array([500.0]))


def test_weights_of_edges() -> None:
    # 1000 * 250 / (500 ln 2), 1000 * 100 / (500 ln 4), 500 * 75 / (500 ln(1 + 1030.776 / 500))
    wanted = [721.348, 144.270, 67.029]
    assert edge_weights(SPINE, NUCLEUS) == pytest.approx(wanted, abs=5e-4)
    unknown = Nuclei(np.zeros((1, 3)), np.array([np.nan]))
    wanted = np.array([250, 100, 37.5]) * 1000 / (2500 * np.log(2))  # all within 2.5 um
    assert edge_weights(SPINE, unknown) == pytest.approx(wanted, abs=1e-9)
    other = 250 * 1000 / (100 * np.log(6))  # d0 of 100, in a nucleus of 500
    assert edge_weights(SPINE, NUCLEUS, d0_nm=100)[0] == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize(
    ("labels", "literal", "scaled", "plain"),
    [
        ([1, 1, 1, 1], 347.931, 2500, 2500),
        ([1, 1, 1, 2], 299.717, 2153.566, 1600),  # the spine's tip apart
        ([2, 1, 1, 1], 17.859, 128.321, 900),  # cut at the cell body
    ],
)
def test_worked_example(labels: list[int], literal: float, scaled: float, plain: float) -> None:
    weight = edge_weights(SPINE, NUCLEUS)
    none = np.zeros(0, np.uint64)
    runs = run_lengths(SPINE, np.array(labels), weight=weight)
    assert expected_run_length(runs, none).overall == pytest.approx(literal, abs=5e-4)
    runs = run_lengths(SPINE, np.array(labels), weight=normalise_weights(SPINE, weight))
    assert expected_run_length(runs, none).overall == pytest.approx(scaled, abs=5e-4)
    assert expected_run_length(runs, none).maximum == pytest.approx(2500, abs=1e-9)
    assert erl(SPINE, np.array(labels)).overall == pytest.approx(plain, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(forests())
def test_of_one_thickness_and_distance_it_is_terl(drawn: tuple[SkeletonForest, np.ndarray]) -> None:
    forest, labels = drawn
    same = SkeletonForest(
        forest.names, forest.skeleton, forest.position, forest.parent, np.full(len(forest), 70.0)
    )
    many = len(forest.names)
    # every node is within the nucleus, so d is the same for all
    inside = Nuclei(np.full((many, 3), 200.0), np.full(many, 1e4))
    weight = normalise_weights(same, edge_weights(same, inside))
    merged = merged_labels(run_lengths(same, labels), "length", 150)
    actual = expected_run_length(run_lengths(same, labels, weight=weight), merged)
    terl = erl(same, labels, rule="length", tau=150)
    assert actual.overall == pytest.approx(terl.overall, rel=1e-9, nan_ok=True)
    np.testing.assert_allclose(actual.skeletons, terl.skeletons, rtol=1e-9)


def test_a_skeleton_without_nucleus_weighs_nothing() -> None:
    nuclei = Nuclei(np.array([[0, 0, 0], [np.nan] * 3]), np.array([500, np.nan]))
    weight = edge_weights(PAIR, nuclei)
    assert (weight[:10] > 0).all()
    assert (weight[10:] == 0).all()
    scaled = normalise_weights(PAIR, weight)
    assert scaled[:10].sum() == pytest.approx(1000, abs=1e-9)
    assert (scaled[10:] == 0).all()


def test_nuclei_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="nuclei: expected 2, one per skeleton; got 1"):
        edge_weights(PAIR, NUCLEUS)
    with pytest.raises(ValueError, match="nuclei: expected positive radii; 1 of 2 are not"):
        Nuclei(np.zeros((2, 3)), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"centres \(S, 3\) and radii \(S,\)"):
        Nuclei(np.zeros((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match="d0_nm: expected a positive number of nm"):
        edge_weights(SPINE, NUCLEUS, d0_nm=0)
