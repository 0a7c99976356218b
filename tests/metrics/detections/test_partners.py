from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from volflow.metrics.detections import partners as synapses
from volflow.metrics.detections.partners import (
    Partners,
    match_partners,
    partner_errors,
    require_inside,
)


@st.composite
def partners(draw: st.DrawFn, named: bool | None = None) -> tuple[Partners, Partners]:
    """Two crowded tables: sites on a lattice of 100 nm, moved a little, of up to three neurons."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    named = draw(st.booleans()) if named is None else named
    both = []
    for _ in range(2):
        count = draw(st.integers(0, 12))
        pre = random.integers(0, 6, (count, 3)) * 100.0 + random.uniform(-9, 9, (count, 3))
        post = pre + random.integers(0, 4, (count, 3)) * 50
        names = [random.integers(0, 3, count) for _ in range(2)] if named else [None, None]
        both.append(Partners(pre, post, *names))
    return both[0], both[1]


def by_matrix(truth: Partners, actual: Partners, distance: float, ends: str) -> tuple[int, float]:
    """Matches and the sum of their costs, from one square matrix, as CREMI defines them."""
    size = max(len(truth), len(actual))
    cost = np.full((size, size), 2 * distance)
    for i in range(len(truth)):
        for j in range(len(actual)):
            a = np.sqrt(((truth.pre[i] - actual.pre[j]) ** 2).sum())
            b = np.sqrt(((truth.post[i] - actual.post[j]) ** 2).sum())
            near = max(a, b) <= distance if ends == "each" else a + b <= distance
            if truth.pre_neuron is not None:
                near &= truth.pre_neuron[i] == actual.pre_neuron[j]
                near &= truth.post_neuron[i] == actual.post_neuron[j]
            if near:
                cost[i, j] = (a + b) / 2
    chosen = cost[linear_sum_assignment(cost)]
    return int((chosen <= distance).sum()), float(chosen[chosen <= distance].sum())


def line(*x: float) -> Partners:
    """Partners along x, the postsynaptic end 100 nm behind in z."""
    pre = np.array([[0.0, 0.0, at] for at in x]).reshape(-1, 3)
    return Partners(pre, pre + np.array([100.0, 0.0, 0.0]))


def test_worked_example() -> None:
    # truth at 0, 1000, 5000; found at 300 (of the first), 1400 (of the second), 1401, 9000
    truth, actual = line(0, 1000, 5000), line(300, 1401, 1400, 9000)
    detection = match_partners(truth, actual)
    assert detection.truth.tolist() == [0, 1]
    assert detection.detected.tolist() == [0, 2]  # 400 nm is near enough, 401 is not
    assert detection.value.tolist() == [300, 400]
    scores = detection.scores()
    assert (scores["precision"], scores["recall"], scores["f1"]) == (2 / 4, 2 / 3, 4 / 7)
    assert scores["mean"] == 350
    assert detection.missed.tolist() == [2]
    assert detection.spurious.tolist() == [1, 3]
    # both ends are off by 300 or 400: together more than 400
    assert match_partners(truth, actual, ends="sum").scores()["true_positives"] == 0
    assert match_partners(truth, actual, 600, ends="sum").truth.tolist() == [0]


def test_each_is_matched_once_and_the_sum_decides() -> None:
    # found 0 is nearest to truth 1, but only it can be truth 0's: 390 + 110 beats 10 and a miss
    truth, actual = line(0, 400), line(390, 510)
    detection = match_partners(truth, actual)
    assert detection.detected.tolist() == [0, 1]
    assert detection.value.tolist() == [390, 110]
    # ten found pairs at one place are one right and nine wrong
    assert match_partners(line(0), line(*[5.0] * 10)).scores()["false_positives"] == 9


def test_neurons_and_direction_must_be_the_same() -> None:
    pre, post = np.zeros((2, 3)), np.full((2, 3), 10.0)
    truth = Partners(pre, post, np.array([1, 2]), np.array([2, 1]))
    assert match_partners(truth, truth).scores()["f1"] == 1
    other = Partners(pre, post, np.array([1, 3]), np.array([2, 1]))
    assert match_partners(truth, other).truth.tolist() == [0]
    back = Partners(post, pre, truth.post_neuron, truth.pre_neuron)
    assert match_partners(truth, back).detected.tolist() == [1, 0]
    far = Partners(np.array([[0, 0, 0]]), np.array([[0, 0, 900]]))
    assert len(match_partners(far, Partners(far.post, far.pre)).truth) == 0


@given(partners(), st.sampled_from([60.0, 150.0, 400.0]), st.sampled_from(["each", "sum"]))
def test_equal_to_one_matrix_of_everything(
    both: tuple[Partners, Partners], distance: float, ends: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synapses, "BATCH", 5)
        detection = match_partners(*both, distance, ends)  # type: ignore[arg-type]
    assert len(set(detection.truth)) == len(set(detection.detected)) == len(detection.truth)
    assert (len(detection.truth), detection.value.sum()) == pytest.approx(
        by_matrix(*both, distance, ends), abs=1e-6
    )


@given(partners(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_swapping_swaps(
    both: tuple[Partners, Partners], random: st.DataObject
) -> None:
    truth, actual = both
    one = match_partners(truth, actual).scores()
    order = np.array(random.sample(range(len(actual)), len(actual)), np.int64)  # type: ignore[attr-defined]
    names = [None if n is None else n[order] for n in (actual.pre_neuron, actual.post_neuron)]
    again = match_partners(truth, Partners(actual.pre[order], actual.post[order], *names)).scores()
    assert again == pytest.approx(one)
    other = match_partners(actual, truth).scores()
    assert (other["precision"], other["recall"]) == (one["recall"], one["precision"])
    assert other["f1"] == one["f1"]


@given(partners(named=False))
def test_a_copy_is_perfect_and_a_false_one_never_raises_precision(
    both: tuple[Partners, Partners],
) -> None:
    truth, actual = both
    copy = match_partners(truth, truth)
    assert copy.scores()["f1"] == (1 if len(truth) else None)
    assert copy.value.tolist() == [0] * len(truth)
    away = np.vstack([actual.pre, [[1e6] * 3]]), np.vstack([actual.post, [[1e6] * 3]])
    before, after = (match_partners(truth, some) for some in (actual, Partners(*away)))
    assert after.scores()["recall"] == before.scores()["recall"]
    assert after.scores()["precision"] <= (before.scores()["precision"] or 0)
    assert after.spurious[-1] == len(actual)


def test_errors_are_reported_with_their_places() -> None:
    truth = Partners([[1, 2, 3], [7, 8, 9]], [[4, 5, 6], [7, 8, 10]], [1, 2], [2, 3])
    actual = Partners([[1, 2, 3]], [[4, 5, 6]], [1], [2])
    reported = partner_errors(truth, actual, match_partners(truth, actual))
    missed = {"row": 1, "pre": [7, 8, 9], "post": [7, 8, 10], "pre_neuron": 2, "post_neuron": 3}
    assert reported == {"false_negatives": [missed], "false_positives": []}
    assert json.loads(json.dumps(reported)) == reported
    assert len(partner_errors(line(*range(9)), line(), match_partners(line(*range(9)), line()), 4)
               ["false_negatives"]) == 4  # fmt: skip


def test_a_hundred_thousand_synapses_are_matched() -> None:
    # every T-bar has seven partners: crowds that no dense matrix of all by all could hold
    random = np.random.default_rng(2)
    pre = np.repeat(random.uniform(0, 40_000, (14_300, 3)), 7, axis=0)
    post = pre + random.normal(0, 150, pre.shape)
    neurons = np.repeat(np.arange(14_300), 7), np.arange(len(pre))
    truth = Partners(pre, post, *neurons)
    order = random.permutation(len(pre))[: len(pre) * 9 // 10]
    moved = random.normal(0, 5, (len(order), 3))
    actual = Partners(pre[order] + moved, post[order] + moved, *(n[order] for n in neurons))
    detection = match_partners(truth, actual)
    assert detection.scores()["precision"] == 1
    assert detection.scores()["recall"] == pytest.approx(0.9, abs=1e-4)
    np.testing.assert_array_equal(order[detection.detected], detection.truth)


def test_what_is_refused() -> None:
    some = np.zeros((4, 3))
    bad = some.copy()
    bad[2, 1] = np.nan
    bad[3, 0] = np.inf
    with pytest.raises(
        ValueError, match=r"pre: 2 of 4 positions are not finite, the first in row 2"
    ):
        Partners(bad, some)
    with pytest.raises(ValueError, match=r"post: expected positions \(N, 3\).*\(4, 2\)"):
        Partners(some, some[:, :2])
    with pytest.raises(ValueError, match="partners: expected 4 postsynaptic sites; got 3"):
        Partners(some, some[:3])
    with pytest.raises(ValueError, match="expected neurons at both ends, or at neither"):
        Partners(some, some, np.ones(4, int))
    with pytest.raises(
        ValueError, match=r"post_neuron: expected 4 integers.*float64 of shape \(4,\)"
    ):
        Partners(some, some, np.ones(4, int), np.ones(4))
    named = Partners(some, some, np.ones(4, int), np.ones(4, int))
    with pytest.raises(ValueError, match="on both sides, truth and detected, or on none"):
        match_partners(named, Partners(some, some))
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="distance: expected a finite number of nm above 0"):
            match_partners(named, named, wrong)
    with pytest.raises(ValueError, match="ends: expected 'each' or 'sum'; got 'max'"):
        match_partners(named, named, ends="max")  # type: ignore[arg-type]


def test_positions_outside_are_counted_and_the_unit_is_guessed() -> None:
    start, stop = np.zeros(3), np.array([1000.0, 8000.0, 9000.0])
    require_inside("pre", np.array([[0, 0, 0], [1000, 8000, 9000]]), start, stop)
    require_inside("pre", np.zeros((0, 3)), start, stop)
    with pytest.raises(ValueError, match=r"pre: 1 of 2 positions are outside.* \[2000\.0, 5\.0, 9"):
        require_inside("pre", np.array([[1, 1, 1], [2000, 5, 9000]]), start, stop)
    with pytest.raises(
        ValueError, match=r"2 of 2 positions .*; read as x, y, z all would be inside"
    ):
        require_inside("pre", np.array([[8500, 7000, 10], [5000, 7000, 900]]), start, stop)
    with pytest.raises(ValueError, match="as micrometres all would be inside"):
        require_inside("pre", np.array([[0.5, 4.2, 5.5]]), start + 100, stop)
