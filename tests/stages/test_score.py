from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from tests.stages.contract import Case, StageContract, filled
from tests.strategies import triples
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Record, find_stage
from volflow.metrics.voxel import contingency, scores
from volflow.stages.score import Score

BOUNDS = Box((2, -3, 5), (11, 8, 13))
RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.integers(0, 5, BOUNDS.shape).astype(np.uint32)
FOUND = RANDOM.integers(0, 6, BOUNDS.shape).astype(np.uint64)
MASK = RANDOM.random(BOUNDS.shape) < 0.7
MASK[4:] = False


class TestScore(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Score(), BOUNDS, {"segmentation": FOUND, "truth": TRUTH})


def run(shape: Triple, skip_empty: bool) -> dict[str, object]:
    stage = Score()
    found: dict[Triple, Record] = {}
    grid = BlockGrid(BOUNDS, shape)
    for sweep in stage.passes(grid):
        below, found = found, {}
        for block in sweep.grid:
            if sweep.kind == "leaf":
                arrays = [filled(a, BOUNDS, block.read) for a in (FOUND, TRUTH, MASK)]
                if skip_empty and not arrays[2].any():
                    found[block.index] = {}
                    continue
                up = stage.leaf(
                    block, "total", None, segmentation=arrays[0], truth=arrays[1], mask=arrays[2]
                )
            else:
                assert sweep.below is not None
                children = [below[child.index] for child in sweep.below.children(block)]
                up = stage.join(block, "total", children)
            found[block.index] = up.passed
    return stage.result(list(found.values()))


@settings(max_examples=25, deadline=None)
@given(triples(1, 12))
def test_the_same_json_whatever_the_blocks(shape: Triple) -> None:
    expected = json.dumps(scores(contingency(TRUTH, FOUND, MASK)))
    assert json.dumps(run(shape, skip_empty=False)) == expected
    assert json.dumps(run(shape, skip_empty=True)) == expected


def test_found_by_its_name() -> None:
    assert find_stage("score") is Score
