from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import center_of_mass, distance_transform_edt

from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box
from volflow.metrics.detections.clefts import (
    Clefts,
    cleft_errors,
    cleft_scores,
    match_by_distance,
    match_by_overlap,
    voxel_scores,
)
from volflow.metrics.voxels.overlaps import count_overlaps

RESOLUTION = (40.0, 4.0, 4.0)


@st.composite
def volumes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two volumes with a few labels each, mostly empty."""
    shape = draw(triples(1, 5))
    few = st.sampled_from([0, 0, 0, 1, 2, 3])
    return draw(hnp.arrays(np.uint32, shape, elements=few)), draw(
        hnp.arrays(np.uint64, shape, elements=few)
    )


def rows(labels: np.ndarray, origin: tuple[int, int, int] = (0, 0, 0)) -> dict[str, np.ndarray]:
    actual = count_overlaps(labels, np.zeros_like(labels), origin=origin).record()
    return actual | {"label": actual["truth"]}


def at(*x: float) -> Clefts:
    """Clefts along x, in nanometres."""
    position = np.array([[0, 0, each] for each in x]).reshape(-1, 3)
    return Clefts(np.arange(1, len(x) + 1, dtype=np.uint64), position, np.full(len(x), 9))


def test_worked_example() -> None:
    # along x, 4 nm a voxel: truth at voxels 0, 1 (label 1) and 100, 101 (label 2);
    # found at 1, 2 (label 7) and at 60 (label 8)
    truth, actual = np.zeros((1, 1, 110), np.uint8), np.zeros((1, 1, 110), np.uint8)
    truth[..., :2], truth[..., 100:102] = 1, 2
    actual[..., 1:3], actual[..., 60] = 7, 8
    scores = cleft_scores(truth, actual, RESOLUTION, distance=150)
    # found to truth: 0, 4 and 160 (40 voxels); truth to found: 4, 0, 160, 164
    voxels = scores["voxels"]
    assert (voxels["truth_voxels"], voxels["found_voxels"]) == (4, 3)
    assert voxels["adgt"] == pytest.approx(164 / 3)
    assert voxels["adf"] == pytest.approx(328 / 4)
    assert voxels["cremi"] == pytest.approx((164 / 3 + 82) / 2)
    assert (voxels["false_positives"], voxels["false_negatives"]) == (1, 2)
    assert (voxels["precision"], voxels["recall"]) == pytest.approx((2 / 3, 1 / 2))
    assert voxels["f1"] == pytest.approx(4 / 7)
    exact = cleft_scores(truth, actual, RESOLUTION, distance=160)["voxels"]  # near enough
    assert (exact["false_positives"], exact["false_negatives"]) == (0, 1)
    # centres: truth at 1 and 101 voxels, found at 2 and 60.5: 4 nm and 162 nm
    for way, mean in (("distance", 4), ("overlap", 1)):
        assert scores[way]["f1"] == 1 / 2
        assert scores[way]["mean"] == pytest.approx(mean)
    assert cleft_scores(truth, actual, RESOLUTION, 162)["distance"]["f1"] == 1
    assert cleft_scores(truth, actual, RESOLUTION, 162, min_size=2)["distance"]["precision"] == 1
    assert json.loads(json.dumps(scores)) == scores


@given(volumes())
def test_voxels_as_by_distance_transforms(both: tuple[np.ndarray, np.ndarray]) -> None:
    truth, actual = both
    scores = cleft_scores(truth, actual, RESOLUTION, 41)["voxels"]
    if not (truth.any() and actual.any()):
        assert scores["adgt"] is scores["adf"] is scores["cremi"] is None
        assert scores["f1"] == (0 if truth.any() or actual.any() else None)
        return
    to_truth = distance_transform_edt(truth == 0, sampling=RESOLUTION)[actual > 0]
    to_found = distance_transform_edt(actual == 0, sampling=RESOLUTION)[truth > 0]
    assert (scores["adgt"], scores["adf"]) == pytest.approx((to_truth.mean(), to_found.mean()))
    assert scores["precision"] == pytest.approx((to_truth <= 41).mean())
    assert scores["recall"] == pytest.approx((to_found <= 41).mean())


@given(volumes(), triples(1, 4))
def test_clefts_of_blocks_are_those_of_the_whole(
    both: tuple[np.ndarray, np.ndarray], shape: tuple[int, int, int]
) -> None:
    labels = both[0]
    whole = Clefts.of(rows(labels), RESOLUTION)
    parts = [
        rows(labels[block.write.slices], block.write.start)
        for block in BlockGrid(Box((0, 0, 0), labels.shape), shape)
    ]
    join_tables = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    actual = Clefts.of(join_tables, RESOLUTION)
    for name in ("label", "position", "size"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(whole, name))
    assert whole.label.tolist() == np.unique(labels[labels > 0]).tolist()
    if len(whole):
        centres = np.array(center_of_mass(labels > 0, labels, whole.label)) + 0.5
        np.testing.assert_allclose(whole.position, centres * RESOLUTION)


@given(volumes())
def test_a_copy_by_other_names_is_perfect_and_swapping_swaps(
    both: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, actual = both
    renamed = np.where(truth > 0, np.uint64(99) - truth, np.uint64(0))
    for name, scores in cleft_scores(truth, renamed, RESOLUTION).items():
        assert scores["f1"] == (1 if truth.any() else None), name
    one, other = (cleft_scores(*pair, RESOLUTION, 9) for pair in ((truth, actual), (actual, truth)))
    for name in one:
        assert (one[name]["precision"], one[name]["recall"]) == (
            other[name]["recall"],
            other[name]["precision"],
        )
        assert one[name]["f1"] == other[name]["f1"]
    assert (one["voxels"]["adgt"], one["voxels"]["adf"]) == (
        other["voxels"]["adf"],
        other["voxels"]["adgt"],
    )


def test_near_centres_are_matched_once() -> None:
    detection = match_by_distance(at(0, 300, 1000), at(200, 350, 1201))
    assert detection.truth.tolist() == [0, 1]  # 200 nm is near enough, 201 is not
    assert detection.detected.tolist() == [0, 1]
    assert detection.value.tolist() == [200, 50]
    assert match_by_distance(at(0), at(1, 2, 3)).scores()["false_positives"] == 2
    more = match_by_distance(at(0, 300, 1000), at(200, 350, 1201, 5000))
    assert more.scores()["precision"] == 2 / 4
    assert match_by_distance(at(), at(1)).scores()["precision"] == 0


def test_as_many_as_possible_share_voxels() -> None:
    # cleft 1 shares 9 voxels with 1 and 2 with 2; cleft 2 shares 3 with 1: 2 + 3 is two matches
    shared = {
        "truth": np.array([1, 1, 2, 0, 5], np.uint64),
        "segment": np.array([1, 2, 1, 1, 1], np.uint64),
        "count": np.array([9, 2, 3, 50, 50]),
    }
    detection = match_by_overlap(at(0, 1), at(0, 1), shared)
    assert detection.detected.tolist() == [1, 0]
    assert detection.value.tolist() == [2, 3]
    assert match_by_overlap(at(0, 1), at(0, 1), shared, min_overlap=3).detected.tolist() == [0]


def test_errors_are_reported_largest_first() -> None:
    truth = Clefts(np.array([3, 4, 9]), np.array([[0, 0, 0], [0, 0, 9e3], [0, 0, 5e3]]),
                   np.array([5, 6, 7]))  # fmt: skip
    reported = cleft_errors(truth, at(0), match_by_distance(truth, at(0)))
    assert [entry["label"] for entry in reported["false_negatives"]] == [9, 4]
    assert reported["false_negatives"][0] == {"label": 9, "voxels": 7, "position": [0, 0, 5000]}
    assert reported["false_positives"] == []


def test_what_is_refused() -> None:
    some = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match="resolution: expected three numbers above 0, zyx in nm"):
        cleft_scores(some, some, (0, 4, 4))
    with pytest.raises(ValueError, match="distance: expected a finite number of nm above 0"):
        voxel_scores(np.zeros((1, 3)), np.zeros((1, 3)), -5)
    with pytest.raises(ValueError, match=r"detected: 1 of 1 positions are not finite"):
        voxel_scores(np.zeros((1, 3)), np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match=r"one shape; got truth \(2, 3, 3\), segmentation \(1"):
        cleft_scores(some, some[:1], RESOLUTION)
    with pytest.raises(ValueError, match=r"three axes zyx; got shape \(3, 3\)"):
        cleft_scores(some[0], some[0], RESOLUTION)
    with pytest.raises(ValueError, match="expected labels in ascending order"):
        Clefts(np.array([2, 1]), np.zeros((2, 3)), np.ones(2, int))
    with pytest.raises(
        ValueError, match=r"expected different labels.* got 2 labels, 2 positions and 2 sizes"
    ):
        Clefts(np.array([1, 1]), np.zeros((2, 3)), np.ones(2, int))
