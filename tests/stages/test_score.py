from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.contract import Case, StageContract, filled
from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Record, find_stage
from volflow.engine.phases.group import partition
from volflow.metrics.detections.objects import score_objects
from volflow.metrics.voxels.border_mask import interior_mask
from volflow.metrics.voxels.contingency import contingency, scores
from volflow.stages.score import Score

BOUNDS = Box((2, -3, 5), (11, 8, 13))
RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.integers(0, 5, BOUNDS.shape).astype(np.uint32)
TRUTH[:, :6, :4] = 3
FOUND = RANDOM.integers(0, 6, BOUNDS.shape).astype(np.uint64)
OBJECTS = np.kron(np.arange(18).reshape(3, 3, 2), np.ones((3, 4, 4))).astype(np.uint32)[:, :11]
MASK = RANDOM.random(BOUNDS.shape) < 0.7
MASK[4:] = False


class TestScore(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Score.model_validate({}), BOUNDS, {"segmentation": FOUND, "truth": TRUTH})


def run(
    shape: Triple,
    parts: int = 3,
    volumes: tuple[np.ndarray, np.ndarray, np.ndarray | None] = (TRUTH, FOUND, MASK),
    **parameters: object,
) -> dict[str, Any]:
    """The result of a score over blocks of a shape, its rows parted as the engine parts them."""
    stage = Score.model_validate(parameters)
    actual: dict[str, list[Record]] = {}
    waiting = []
    for block in BlockGrid(BOUNDS, shape, stage.halo):
        truth, segmentation = (filled(a, BOUNDS, block.read) for a in volumes[:2])
        mask = None if volumes[2] is None else filled(volumes[2], BOUNDS, block.read)
        waiting.append(stage.rows(block, segmentation=segmentation, truth=truth, mask=mask))
    for name in stage.rounds:
        rows = {key: np.concatenate([part[key] for part in waiting]) for key in waiting[0]}
        where = partition(rows, stage.key(name), parts)
        split = [{k: c[where == number] for k, c in rows.items()} for number in range(parts)]
        created = [stage.group(name, stage.combine(name, part)) for part in split]
        actual[name] = [group.partial for group in created]
        waiting = [group.rows for group in created]
    return stage.result(actual)


@settings(max_examples=25, deadline=None)
@given(triples(1, 12), st.integers(1, 9))
def test_the_same_json_whatever_the_blocks(shape: Triple, parts: int) -> None:
    whole = run(BOUNDS.shape, parts)
    assert json.dumps(run(shape, parts)) == json.dumps(whole)
    expected = scores(contingency(TRUTH, FOUND, MASK))
    assert {name: whole[name] for name in expected} == expected


@settings(max_examples=15, deadline=None)
@given(triples(1, 12), st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([(1, 1, 1), (3, 1, 1)]))
def test_a_border_is_the_same_whatever_the_blocks(shape, border, spacing) -> None:
    actual = run(shape, border=border, border_spacing=spacing)
    remaining = interior_mask(TRUTH, border, spacing) & MASK
    expected = scores(contingency(TRUTH, FOUND, remaining))
    assert {name: actual[name] for name in expected} == expected


@settings(max_examples=15, deadline=None)
@given(triples(1, 12), st.integers(1, 5), st.sampled_from([1, 5, 40]))
def test_objects_are_the_same_whatever_the_blocks(shape, parts, least) -> None:
    volumes = (OBJECTS, np.roll(OBJECTS, 1, axis=2), MASK)
    actual = run(shape, parts, volumes, objects=(0.5, 0.75), min_object=least)
    expected = score_objects(*volumes[:2], (0.5, 0.75), MASK, least, least)
    assert actual["objects"] == expected
    plain = run(shape, parts, volumes)  # unlabelled voxels count for objects only
    assert {name: actual[name] for name in plain} == plain
    assert sum(expected["f1"][:1]) > 0 or least == 40


def test_as_many_partitions_as_there_are_make_no_difference() -> None:
    one, many = run((4, 4, 4), 1), run((4, 4, 4), 40)
    assert json.dumps(one, sort_keys=True) == json.dumps(many, sort_keys=True)


def test_bits_of_all_offenders_are_the_scores() -> None:
    actual = run((4, 5, 6), worst=1000)
    splits = sum(entry["split_bits"] for entry in actual["worst"]["splits"])
    mergers = sum(entry["merge_bits"] for entry in actual["worst"]["mergers"])
    assert splits == pytest.approx(actual["vi_split"], abs=1e-12)
    assert mergers == pytest.approx(actual["vi_merge"], abs=1e-12)


def test_offenders_are_worst_first_with_their_largest_parts_and_places() -> None:
    volumes = (TRUTH, FOUND, None)
    actual = run((3, 4, 5), 3, volumes, worst=2)["worst"]["mergers"]
    bits = [entry["merge_bits"] for entry in run((3, 4, 5), 3, volumes)["worst"]["mergers"]]
    assert [entry["merge_bits"] for entry in actual] == sorted(bits, reverse=True)[:2]
    entry = actual[0]
    voxels = [part["voxels"] for part in entry["parts"]]
    assert voxels == sorted(voxels, reverse=True)
    for part in entry["parts"]:
        shared = np.argwhere((entry["segment"] == FOUND) & (part["truth"] == TRUTH))
        assert len(shared) == part["voxels"]
        expected = (shared + np.array(BOUNDS.start)).mean(axis=0)
        np.testing.assert_allclose(part["position"], expected, atol=0.051)
    truths = set(np.unique(TRUTH[entry["segment"] == FOUND]).tolist()) - {0}
    assert entry["truths"] == len(truths)


def test_a_limit_that_is_not_met_is_reported() -> None:
    stage = Score.model_validate({"require": {"vi": {"max": 1.0}, "recall": {"min": 0.9}}})
    assert stage.unmet({"vi": 0.5, "recall": 0.95}) == []
    assert stage.unmet({"vi": 1.5, "recall": 0.5}) == [
        "vi is 1.5, and at most 1 is required",
        "recall is 0.5, and at least 0.9 is required",
    ]
    assert stage.unmet({"vi": None, "recall": 1.0}) == [
        "vi could not be computed, but a limit is set for it"
    ]
    assert stage.identity() == Score.model_validate({}).identity()


def test_a_limit_on_what_is_no_score_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no score 'vi_merg'; did you mean 'vi_merge'"):
        Score.model_validate({"require": {"vi_merg": {"max": 1}}})


def test_found_by_its_name() -> None:
    assert find_stage("score") is Score
