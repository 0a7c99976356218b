from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as skimage_vi

from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box
from volflow.metrics.voxels.contingency import (
    adapted_rand,
    add_tables,
    contingency,
    scores,
    variation_of_information,
)

TRUTH = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0, 0], np.uint32)
FOUND = np.array([1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 1, 5, 6, 0], np.uint64)


@st.composite
def pairs_of_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(triples(1, 6))
    dtypes = st.sampled_from([np.uint8, np.uint32, np.int64, np.uint64])
    truth = draw(hnp.arrays(draw(dtypes), shape, elements=st.integers(0, 4)))
    actual = draw(hnp.arrays(draw(dtypes), shape, elements=st.integers(0, 5)))
    truth[0, 0, 0] = 1
    return truth, actual


def test_worked_example() -> None:
    # 12 voxels with truth: (1,1) 2, (1,2) 2, (2,3) 4, (3,3) 4
    table = contingency(TRUTH, FOUND)
    assert table.truth.tolist() == [1, 1, 2, 3]
    assert table.segment.tolist() == [1, 2, 3, 3]
    assert table.count.tolist() == [2, 2, 4, 4]
    # H(segment | truth): truth 1 (a third) is halved; H(truth | segment): segment 3 (two thirds)
    assert variation_of_information(table) == pytest.approx((1 / 3, 2 / 3), abs=1e-15)
    # n^2: together 4 + 4 + 16 + 16 = 40, segments 4 + 4 + 64 = 72, truths 3 * 16 = 48
    assert adapted_rand(table, "all") == pytest.approx((1 / 3, 5 / 9, 5 / 6), abs=1e-15)
    # n (n - 1): 2 + 2 + 12 + 12 = 28, 2 + 2 + 56 = 60, 3 * 12 = 36
    assert adapted_rand(table) == pytest.approx((5 / 12, 28 / 60, 28 / 36), abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(pairs_of_labels())
def test_equal_to_scikit_image(labels: tuple[np.ndarray, np.ndarray]) -> None:
    truth, actual = (array.astype(np.int64) for array in labels)
    table = contingency(*labels)
    merge, split = skimage_vi(actual[truth > 0], truth[truth > 0])
    assert variation_of_information(table) == pytest.approx((split, merge), abs=1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = adapted_rand_error(truth, actual)
    if np.isfinite(theirs).all():
        error, recall, precision = theirs  # swapped names, see the docstring
        assert adapted_rand(table) == pytest.approx((error, precision, recall), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(pairs_of_labels(), triples(1, 7), st.booleans())
def test_blocks_add_up_to_the_same_bytes(
    labels: tuple[np.ndarray, np.ndarray], shape: tuple[int, int, int], masked: bool
) -> None:
    truth, actual = labels
    mask = (actual != 2) if masked else np.ones(truth.shape, bool)
    grid = BlockGrid(Box((0, 0, 0), truth.shape), shape)
    parts = [
        contingency(truth[b.write.slices], actual[b.write.slices], mask[b.write.slices])
        for b in grid
    ]
    whole = contingency(truth * mask.astype(truth.dtype), actual)
    total = add_tables([add_tables(parts[::2]), add_tables(parts[1::2])])
    for name in ("truth", "segment", "count"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))
    assert json.dumps(scores(total)) == json.dumps(scores(whole))


@settings(max_examples=40, deadline=None)
@given(pairs_of_labels(), st.permutations(range(6)))
def test_names_do_not_matter(labels: tuple[np.ndarray, np.ndarray], names: list[int]) -> None:
    truth, actual = labels
    renamed = np.array(names, np.uint64)[actual.astype(int)] + np.uint64(2**60)
    assert scores(contingency(truth, renamed)) == scores(contingency(truth, actual))


def test_many_pairs_and_wide_ids() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3000, (40, 40, 40)).astype(np.uint64) << np.uint64(40)
    actual = random.integers(0, 500, truth.shape).astype(np.uint64) + np.uint64(2**63)
    table = contingency(truth, actual)
    counted = truth > 0
    pairs = np.stack([truth[counted], actual[counted]], axis=1)
    expected, count = np.unique(pairs, axis=0, return_counts=True)
    np.testing.assert_array_equal(np.stack([table.truth, table.segment], axis=1), expected)
    np.testing.assert_array_equal(table.count, count)
    assert len(count) > 50_000


def test_a_renamed_copy_is_perfect_and_huge_counts_stay_exact() -> None:
    labels = np.arange(1, 28, dtype=np.uint64).reshape(3, 3, 3) // np.uint64(4) + np.uint64(1)
    table = contingency(labels, labels + np.uint64(7))
    assert variation_of_information(table) == (0.0, 0.0)
    assert adapted_rand(table) == adapted_rand(table, "all") == (0.0, 1.0, 1.0)
    doubled = table
    for _ in range(50):  # 27 * 2^50 voxels: squares far beyond 64 bits
        doubled = add_tables([doubled, doubled])
    assert doubled.voxels == 27 * 2**50
    assert adapted_rand(doubled, "all") == (0.0, 1.0, 1.0)


def test_what_cannot_be_scored() -> None:
    nothing = contingency(np.zeros((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="no voxel has a truth label"):
        variation_of_information(nothing)
    assert scores(nothing)["vi"] is None
    assert scores(nothing)["voxels"] == 0
    with pytest.raises(ValueError, match=r"one shape; got truth \(2,\), segmentation \(3,\)"):
        contingency(np.ones(2, int), np.ones(3, int))
    with pytest.raises(ValueError, match="expected labels of 0 or more; got -1"):
        contingency(np.ones(2, int), np.array([1, -1]))
    with pytest.raises(ValueError, match="truth: expected integer labels; got float64"):
        contingency(np.ones(2), np.ones(2, int))
    with pytest.raises(ValueError, match="pairs: expected 'distinct' or 'all'"):
        adapted_rand(contingency(TRUTH, FOUND), "some")  # type: ignore[arg-type]
