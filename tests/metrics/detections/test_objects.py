from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from skimage.measure import label as components
from skimage.metrics import contingency_table

from tests.strategies import triples
from volflow.metrics.detections.objects import (
    COLUMNS,
    THRESHOLDS,
    MatchCounts,
    assigned,
    count_matches,
    object_scores,
    score_objects,
    sum_matches,
    with_sizes,
)

# one row of twelve voxels: truth 1 of four, 2 of four, 3 of two; two of background
TRUTH = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 0, 0], np.uint32)
# segment 5 = truth 1 less one; 6 = truth 2 and one of 1; 7 = half of 3; 8 = background alone
FOUND = np.array([5, 5, 5, 6, 6, 6, 6, 6, 7, 0, 8, 8], np.uint64)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A truth and a segmentation that mostly agrees with it."""
    shape = draw(triples(1, 5))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 5)))
    other = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 5)))
    astray = draw(hnp.arrays(np.bool_, shape, fill=st.just(False)))
    return truth, np.where(astray, other, truth).astype(np.uint16)


def table(truth: np.ndarray, actual: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of two arrays, by scikit-image."""
    counts = contingency_table(truth.astype(np.int64), actual.astype(np.int64)).tocoo()
    names = counts.row.astype(np.uint64), counts.col.astype(np.uint64)
    return with_sizes(*names, counts.data.astype(np.int64))


def by_hungarian(truth: np.ndarray, actual: np.ndarray, at: float) -> tuple[int, float]:
    """Matched objects and the sum of their IoUs, from one matrix of masks, slowly."""
    truths = [truth == name for name in np.unique(truth[truth > 0])]
    detections = [actual == name for name in np.unique(actual[actual > 0])]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in detections] for a in truths])
    if not iou.size:
        return 0, 0.0
    weight = np.where(iou >= at, 1 + iou / (2 * max(iou.shape)), 0)
    chosen = linear_sum_assignment(weight, maximize=True)
    good = iou[chosen] >= at
    return int(good.sum()), float(iou[chosen][good].sum())


def test_worked_example() -> None:
    # IoU: (1, 5) 3 / 4, (2, 6) 4 / 5, (1, 6) 1 / 8, (3, 7) 1 / 2 and so no match at 0.5
    scores = score_objects(TRUTH, FOUND, (0.5, 0.75, 0.8, 0.9))
    assert (scores["truths"], scores["segments"]) == (3, 4)
    assert scores["true_positives"] == [2, 2, 1, 0]
    assert scores["false_positives"] == [2, 2, 3, 4]
    assert scores["false_negatives"] == [1, 1, 2, 3]
    assert scores["precision"] == [2 / 4, 2 / 4, 1 / 4, 0]
    assert scores["recall"] == [2 / 3, 2 / 3, 1 / 3, 0]
    assert scores["f1"] == [4 / 7, 4 / 7, 2 / 7, 0]
    assert scores["ap"] == [2 / 5, 2 / 5, 1 / 6, 0]
    assert scores["mean_ap"] == pytest.approx((2 / 5 + 2 / 5 + 1 / 6) / 4)
    assert scores["mean_iou"] == [(0.75 + 0.8) / 2] * 2 + [0.8, None]
    assert scores["panoptic_quality"] == pytest.approx([1.55 / 3.5, 1.55 / 3.5, 0.8 / 3.5, 0])
    assert json.loads(json.dumps(scores)) == scores
    # `assigned` takes (3, 7) at 0.5, and segment 6 cannot have both truth 1 and 2 at 0.1
    actual = assigned(table(TRUTH, FOUND), (0.1, 0.5))
    assert actual.matched.tolist() == [3, 3]
    assert actual.iou == pytest.approx([2.05, 2.05])


def test_two_equal_halves_are_no_match_and_either_may_be_assigned() -> None:
    truth, actual = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert count_matches(table(truth, actual), (0.5,)).matched.tolist() == [0]
    assert assigned(table(truth, actual), (0.5,)).matched.tolist() == [1]
    assert assigned(table(actual, truth), (0.5,)).matched.tolist() == [1]


def test_two_fair_matches_are_assigned_rather_than_one_good_one() -> None:
    # IoU: (1, 1) 6 / 14, (1, 2) and (2, 1) 3 / 17 each, together less than the first
    labels = np.array([1, 1, 2], np.uint64), np.array([1, 2, 1], np.uint64)
    columns = (*labels, np.array([6, 3, 3]), np.full(3, 10), np.full(3, 10))
    actual = assigned(dict(zip(COLUMNS, columns, strict=True)), (0.1, 0.2))
    assert actual.matched.tolist() == [2, 1]
    assert actual.iou == pytest.approx([6 / 17, 6 / 14])


def test_a_threshold_with_dust_is_the_decimal_it_means() -> None:
    truth, actual = np.array([1, 1, 1, 1, 1]), np.array([1, 1, 1, 0, 0])
    dusty = np.arange(0.5, 1, 0.05)
    assert dusty[2] > 0.6
    scores = score_objects(truth, actual, dusty)  # type: ignore[arg-type]
    assert scores["true_positives"] == [1, 1, 1] + [0] * 7
    assert scores["thresholds"] == list(THRESHOLDS)


@given(volumes(), st.sampled_from([(0.5, 0.6, 0.9), THRESHOLDS, (1.0,)]))
def test_equal_to_the_hungarian_method_on_masks(
    labels: tuple[np.ndarray, np.ndarray], thresholds: tuple[float, ...]
) -> None:
    truth, actual = labels
    scores = score_objects(truth, actual, thresholds)
    rows = table(truth, actual)
    loose = assigned(rows, (0.1, 0.3, *thresholds))
    for at, matched, iou in zip((0.1, 0.3, *thresholds), loose.matched, loose.iou, strict=True):
        assert (matched, iou) == pytest.approx(by_hungarian(truth, actual, at), abs=1e-12)
    for number, at in enumerate(thresholds):
        # strictly more than one half; elsewhere the two rules are one
        matched, iou = by_hungarian(truth, actual, max(at, 0.5 + 1e-9))
        assert scores["true_positives"][number] == matched
        if matched:
            assert scores["mean_iou"][number] == pytest.approx(iou / matched, abs=1e-12)


@given(volumes(), st.integers(1, 5))
def test_parts_of_the_table_add_up_to_the_same_bytes(
    labels: tuple[np.ndarray, np.ndarray], parts: int
) -> None:
    rows = table(*labels)
    whole = count_matches(rows)
    home = (rows["segment"] * np.uint64(0x9E3779B97F4A7C15)) % np.uint64(parts)
    pieces = [
        count_matches({name: column[home == part] for name, column in rows.items()})
        for part in reversed(range(parts))
    ]
    pieces.append(count_matches({}))
    actual = sum_matches(MatchCounts(**piece.record()) for piece in pieces)
    for name, column in whole.record().items():
        np.testing.assert_array_equal(actual.record()[name], column)
    assert json.dumps(object_scores(actual, 9, 9)) == json.dumps(object_scores(whole, 9, 9))


@given(volumes())
def test_a_copy_by_other_names_is_perfect_and_swapping_swaps(
    labels: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, actual = labels
    renamed = np.where(truth > 0, truth + np.uint64(2**63), np.uint64(0))
    perfect = score_objects(truth, renamed)
    for name in ("precision", "recall", "f1", "ap", "mean_iou", "panoptic_quality"):
        assert perfect[name] == ([1] * 10 if truth.any() else [None] * 10)
    one, other = score_objects(truth, actual), score_objects(actual, truth)
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
    assert (one["f1"], one["ap"], one["mean_iou"]) == (other["f1"], other["ap"], other["mean_iou"])
    assert score_objects(truth[::-1], actual[::-1]) == one


@given(volumes())
def test_one_more_false_object_never_raises_precision(
    labels: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, actual = (np.pad(array, ((0, 1), (0, 0), (0, 0))) for array in labels)
    more = actual.copy()
    more[-1] = 99
    before, after = score_objects(truth, actual), score_objects(truth, more)
    assert before["recall"] == after["recall"]
    assert all(
        b is None or a <= b for a, b in zip(after["precision"], before["precision"], strict=True)
    )
    if before["true_positives"][0]:
        assert after["precision"][0] < before["precision"][0]


def test_blobs_cut_off_and_grown() -> None:
    random = np.random.default_rng(5)
    truth = components(random.random((20, 30, 30)) < 0.12, connectivity=1)
    actual = np.roll(truth, 1, axis=2)
    rows = table(truth, actual)
    scores = score_objects(truth, actual)
    assert scores["truths"] > 500
    assert 0 < scores["true_positives"][0] < scores["truths"]
    assert count_matches(rows).matched.tolist() == scores["true_positives"]
    assert assigned(rows, (0.55,)).matched[0] == scores["true_positives"][1]
    # the sum of IoUs does not depend on the order of the rows, to the last bit
    order = random.permutation(len(rows["count"]))
    assert (
        count_matches({name: rows[name][order] for name in COLUMNS}).iou == count_matches(rows).iou
    )


def test_small_objects_do_not_exist_and_masked_voxels_do_not_count() -> None:
    scores = score_objects(TRUTH, FOUND, (0.5,), min_truth=3, min_segment=2)
    assert (scores["truths"], scores["segments"]) == (2, 3)
    assert scores["true_positives"] == [2]
    assert score_objects(TRUTH, FOUND, (0.5,), min_segment=5)["true_positives"] == [1]
    # without the last four voxels: truth 1 and 2, segments 5 and 6
    scores = score_objects(TRUTH, FOUND, (0.5,), mask=np.arange(12) < 8)
    assert (scores["truths"], scores["segments"], scores["true_positives"]) == (2, 2, [2])


def test_nothing_to_find_or_nothing_found() -> None:
    nothing = np.zeros_like(TRUTH)
    scores = score_objects(TRUTH, nothing, (0.5,))
    assert (scores["precision"], scores["recall"], scores["f1"]) == ([None], [0], [0])
    assert scores["ap"] == [0]
    scores = score_objects(nothing, nothing, (0.5,))
    assert scores["f1"] == scores["ap"] == scores["panoptic_quality"] == [None]
    assert scores["mean_ap"] is None


def test_sums_of_many_objects_stay_exact() -> None:
    once = count_matches(table(TRUTH, FOUND), (0.5,))
    many = once
    for _ in range(30):  # 2^31 pairs
        many = many + many
    assert many.matched.tolist() == [2**31]
    assert many.iou == [1.55 * 2**30]


def test_what_is_refused() -> None:
    rows = table(TRUTH, FOUND)
    with pytest.raises(
        ValueError, match=r"expected 0\.5 or more, got 0\.3; below 0\.5 an object may match"
    ):
        count_matches(rows, (0.3, 0.5))
    with pytest.raises(ValueError, match=r"numbers above 0 and up to 1; got \(0\.5, 1\.5\)"):
        count_matches(rows, (0.5, 1.5))
    for wrong in ((), (float("nan"),), (0.0,)):
        with pytest.raises(ValueError, match="numbers above 0 and up to 1"):
            assigned(rows, wrong)
    with pytest.raises(ValueError, match="thresholds: expected ascending"):
        count_matches(rows, (0.6, 0.5))
    with pytest.raises(
        ValueError, match="overlaps: expected the columns truth, segment, count, truth_size"
    ):
        count_matches({"truth": rows["truth"]})
    with pytest.raises(
        ValueError, match="truth 1 of 4 voxels and segment 5 of 3 voxels cannot share 9"
    ):
        count_matches({**rows, "count": np.where(rows["count"] == 3, 9, rows["count"])})
    with pytest.raises(ValueError, match="expected matches at the thresholds"):
        count_matches(rows, (0.5,)) + count_matches(rows, (0.6,))
    with pytest.raises(ValueError, match=r"one shape; got truth \(12,\), segmentation \(11,\)"):
        score_objects(TRUTH, FOUND[1:])
    with pytest.raises(
        ValueError, match="at most 1 one-to-one matches of 1 objects and 4 detections; got 2"
    ):
        object_scores(count_matches(rows, (0.5,)), 1, 4)
