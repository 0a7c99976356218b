from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from volflow.metrics.detections import matching
from volflow.metrics.detections.matching import Matching, best_pairs, rates


@st.composite
def candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some cells of a small table, in any order, with rows that are not 0, 1, 2, ..."""
    side = st.integers(0, draw(st.sampled_from([3, 9])))
    cells = draw(st.lists(st.tuples(side, side), unique=True, min_size=draw(st.integers(0, 12))))
    gain = [draw(st.floats(0.01, 10)) for _ in cells]
    at = np.array(cells, np.int64).reshape(-1, 2)
    return at[:, 0] * 7, at[:, 1] * 3 + 1, np.array(gain)


def most(truth: np.ndarray, actual: np.ndarray, gain: np.ndarray) -> float:
    """The largest sum of gains, from one matrix of everything."""
    matrix = np.zeros((100, 100))
    matrix[truth, actual] = gain
    return float(matrix[linear_sum_assignment(matrix, maximize=True)].sum())


@given(candidates(), st.booleans())
def test_as_much_is_gained_as_by_one_matrix_of_everything(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], sparse: bool
) -> None:
    truth, actual, gain = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE", 0 if sparse else 1 << 18)
        chosen = best_pairs(truth, actual, gain)
    assert len(set(truth[chosen])) == len(set(actual[chosen])) == len(chosen)
    assert (np.diff(truth[chosen]) > 0).all()
    assert gain[chosen].sum() == pytest.approx(most(truth, actual, gain), rel=1e-12)


def test_worked_example() -> None:
    # row 0 likes column 0 best, but 5 + 4 is more than 6 alone; rows 2 and 3 share column 9
    truth, actual = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 0, 9, 9])
    gain = np.array([6.0, 5.0, 4.0, 1.0, 2.0])
    assert best_pairs(truth, actual, gain).tolist() == [1, 2, 4]
    # three rows of one group, two of them with one and the same column: one of them goes without
    truth, actual = np.array([0, 1, 2, 2, 2]), np.array([0, 0, 0, 1, 2])
    assert best_pairs(truth, actual, np.array([1.0, 2.0, 9.0, 1.0, 3.0])).tolist() == [2]
    assert best_pairs(truth, actual, np.array([1.0, 2.0, 4.0, 1.0, 3.0])).tolist() == [1, 4]
    assert best_pairs(truth[:0], actual[:0], gain[:0]).tolist() == []
    with pytest.raises(ValueError, match=r"above 0; got a smallest gain of 0\.0"):
        best_pairs(truth, actual, np.array([1.0, 0.0, 1.0, 1.0, 1.0]))


def test_a_large_group_needs_no_matrix() -> None:
    # a chain of 10,000 rows and columns in one group: a matrix would have 800 MB
    rows = np.arange(10_000)
    truth, actual = np.concatenate([rows, rows[:-1]]), np.concatenate([rows, rows[1:]])
    gain = np.concatenate([np.full(len(rows), 2.0), np.full(len(rows) - 1, 1.0)])
    tracemalloc.start()
    chosen = best_pairs(truth, actual, gain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chosen.tolist() == rows.tolist()
    assert peak < 20e6


def test_what_a_detection_says() -> None:
    none = np.zeros(0, np.int64)
    actual = Matching(np.array([0, 2]), np.array([3, 1]), np.array([10.0, 20.0]), 3, 5)
    assert actual.missed.tolist() == [1]
    assert actual.spurious.tolist() == [0, 2, 4]
    assert actual.scores() == {
        "true_positives": 2,
        "false_positives": 3,
        "false_negatives": 1,
        "precision": 2 / 5,
        "recall": 2 / 3,
        "f1": 4 / 8,
        "mean": 15.0,
    }
    assert set(Matching(none, none, none.astype(float), 0, 0).scores().values()) == {0, None}
    assert rates(0, 3, 0)["precision"] is None
    assert rates(0, 3, 0)["f1"] == 0
    with pytest.raises(
        ValueError, match="at most 2 one-to-one matches of 2 objects and 5 detections; got 3"
    ):
        rates(3, 2, 5)
