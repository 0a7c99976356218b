from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.stages.contract import Case, StageContract, filled
from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import find_stage
from volflow.metrics.detections.clefts import cleft_scores
from volflow.stages.score_clefts import ScoreClefts

RESOLUTION = (40.0, 8.0, 4.0)
BOUNDS = Box((2, -3, 5), (11, 8, 13))
RANDOM = np.random.default_rng(3)
TRUTH = np.where(RANDOM.random(BOUNDS.shape) < 0.1, RANDOM.integers(1, 9, BOUNDS.shape), 0)
TRUTH = TRUTH.astype(np.uint64)
FOUND = np.where(RANDOM.random(BOUNDS.shape) < 0.7, TRUTH * 7, 0)
FOUND[:2] = 5
MASK = RANDOM.random(BOUNDS.shape) < 0.8
MASK[5:] = False


class TestScoreClefts(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        stage = ScoreClefts.model_validate({"resolution": RESOLUTION})
        return Case(stage, BOUNDS, {"found_clefts": FOUND, "true_clefts": TRUTH})


def run(
    shape: Triple,
    volumes: tuple[np.ndarray, np.ndarray] = (TRUTH, FOUND),
    bounds: Box = BOUNDS,
    mask: np.ndarray | None = None,
    **parameters: object,
) -> dict[str, Any]:
    """The result over blocks of a shape, brought together as the engine does."""
    stage = ScoreClefts.model_validate({"resolution": RESOLUTION, **parameters})
    first, *above = stage.tree("total", BlockGrid(bounds, shape))
    passed = {}
    for block in first:
        truth, actual = (filled(array, bounds, block.read) for array in volumes)
        remaining = None if mask is None else filled(mask, bounds, block.read)
        up = stage.leaf(
            block, "total", None, found_clefts=actual, true_clefts=truth, mask=remaining
        )
        passed[block.index] = up.passed
    below = first
    for grid in above:
        joined = {}
        for node in grid:
            inside = [b.index for b in below if node.write.covers(b.write)]
            joined[node.index] = stage.join(node, "total", [passed[i] for i in inside]).passed
        passed, below = joined, grid
    return stage.result(list(passed.values()))


@settings(max_examples=20, deadline=None)
@given(triples(1, 12))
def test_the_same_json_whatever_the_blocks(shape: Triple) -> None:
    assert json.dumps(run(shape)) == json.dumps(run(BOUNDS.shape))
    masked = run(shape, mask=MASK, min_size=2, distance=30.0)
    remaining = [np.where(MASK, array, 0) for array in (TRUTH, FOUND)]
    expected = cleft_scores(remaining[0], remaining[1], RESOLUTION, 30.0, 2)
    assert masked["distance"] == pytest.approx(expected["distance"])
    assert masked["overlap"] == expected["overlap"]
    assert 0 < masked["overlap"]["f1"] < 1


def test_worked_example() -> None:
    # along x, voxels of 4 nm:  truth 1 at 0 to 3, 2 at 10 and 11, 3 at 40
    #                           found 7 at 3 to 6, 8 at 12 and 13, 9 at 70 and 71
    bounds = Box((0, 0, 10), (1, 1, 90))
    truth, actual = (np.zeros(bounds.shape, np.uint32) for _ in range(2))
    for label, first, last in ((1, 0, 3), (2, 10, 11), (3, 40, 40)):
        truth[0, 0, first : last + 1] = label
    for label, first, last in ((7, 3, 6), (8, 12, 13), (9, 70, 71)):
        actual[0, 0, first : last + 1] = label
    reported = run((1, 1, 7), (truth, actual), bounds, distance=12.0)
    # centres: 1.5 and 4.5 are 12 nm apart, 10.5 and 12.5 are 8; only the first two share a voxel
    near, shared = reported["distance"], reported["overlap"]
    assert (near["true_positives"], near["precision"], near["recall"]) == (2, 2 / 3, 2 / 3)
    assert near["mean"] == pytest.approx(10)
    assert (shared["true_positives"], shared["f1"], shared["mean"]) == (1, 1 / 3, 1)
    assert (reported["truth_clefts"], reported["found_clefts"]) == (3, 3)
    missed, spurious = reported["errors"]["false_negatives"], reported["errors"]["false_positives"]
    assert [(row["label"], row["voxels"]) for row in missed] == [(2, 2), (3, 1)]
    assert [row["label"] for row in spurious] == [8, 9]
    assert missed[0]["position"] == [20, 4, (10 + 10.5 + 0.5) * 4]  # the volume begins at x = 10
    less = run((1, 1, 7), (truth, actual), bounds, distance=11.0, min_size=2, worst=0)
    assert less["distance"]["true_positives"] == 1
    assert less["truth_clefts"] == 2  # the third is too small
    assert less["errors"] == {"false_negatives": [], "false_positives": []}


def test_nothing_anywhere() -> None:
    none = np.zeros(BOUNDS.shape, np.uint64)
    reported = run((4, 5, 6), (none, none))
    assert reported["overlap"]["f1"] is None
    assert run((4, 5, 6), (none, FOUND))["overlap"]["precision"] == 0
    assert run((4, 5, 6), (TRUTH, none))["distance"]["recall"] == 0


def test_a_limit_that_is_not_met_is_reported() -> None:
    limits = {"overlap_f1": {"min": 0.5}, "distance_recall": {"min": 0.1}}
    stage = ScoreClefts.model_validate({"resolution": RESOLUTION, "require": limits})
    rates = {"f1": 0.25, "recall": 0.5}
    reported = stage.unmet({"overlap": rates, "distance": rates})
    assert reported == ["overlap_f1 is 0.25, and at least 0.5 is required"]
    with pytest.raises(ValueError, match="no score 'overlap_f2'; did you mean 'overlap_f1'"):
        ScoreClefts.model_validate({"resolution": RESOLUTION, "require": {"overlap_f2": {}}})
    assert stage.identity() == ScoreClefts.model_validate({"resolution": RESOLUTION}).identity()


def test_a_resolution_that_is_not_the_runs_is_reported() -> None:
    stage = ScoreClefts.model_validate({"resolution": RESOLUTION})
    assert stage.check_inputs({}, RESOLUTION) == []
    (reported,) = stage.check_inputs({}, RESOLUTION[::-1])
    assert (
        "expected that of the run, [4.0, 8.0, 40.0] nm (z, y, x); got [40.0, 8.0, 4.0]" in reported
    )


def test_it_is_found_by_its_name() -> None:
    assert find_stage("score_clefts") is ScoreClefts
