from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import volflow
from tests.segment.test_pyramid import slow_pool
from tests.stages.contract import Case, StageContract, run
from tests.strategies import boxes, triples
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Phase, find_stage
from volflow.engine.api import make_plan
from volflow.io.volume import Volume
from volflow.stages.pyramid import Pyramid

BOUNDS = Box((3, -3, 5), (14, 10, 21))
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 4, BOUNDS.shape).astype(np.uint64)


class TestLabels(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        stage = Pyramid(levels=3, factors=((1, 2, 2), (2, 2, 2), (2, 1, 1)))
        return Case(stage, BOUNDS, {"labels": LABELS})


class TestImage(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        image = RANDOM.integers(0, 256, (2, *BOUNDS.shape)).astype(np.uint8)
        return Case(Pyramid(kind="image", levels=2), BOUNDS, {"labels": image})


@settings(max_examples=40, deadline=None)
@given(boxes(1, 9), triples(1, 6), st.sampled_from(["labels", "image"]))
def test_levels_equal_a_whole_volume_computation(box: Box, shape: Triple, kind: str) -> None:
    volume = np.random.default_rng(box.size).integers(0, 4, box.shape).astype(np.uint8)
    factors = ((1, 2, 2), (2, 2, 2))
    case = Case(Pyramid(kind=kind, levels=3, factors=factors), box, {"labels": volume})
    actual = run(case, shape)
    assert list(actual) == ["pyramid@1", "pyramid@2", "pyramid@3"]
    for level, factor in enumerate((*factors, (2, 2, 2)), 1):
        volume = slow_pool(volume, box, factor, kind == "labels")
        box = box.zoom_out(factor)
        np.testing.assert_array_equal(actual[f"pyramid@{level}"], volume)


def test_passes_say_what_they_read_and_write() -> None:
    stage = Pyramid(factors=((1, 2, 2),))
    sweeps = stage.phases(BlockGrid(Box((0, 5, 1), (100, 261, 120)), (32, 32, 32)))
    assert [phase.name for phase in sweeps] == ["scale.1", "scale.2", "scale.3"]
    assert [phase.scales for phase in sweeps] == [(0, 1), (1, 2), (2, 3)]
    assert [phase.zoom for phase in sweeps] == [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    # 5:261 is covered by 2:131, that by 1:66 (65 voxels, one too many to stop) and that by 0:33
    assert sweeps[0].grid.bounds == Box((0, 2, 0), (100, 131, 60))
    assert sweeps[1].grid.bounds == Box((0, 1, 0), (50, 66, 30))
    assert sweeps[2].grid.bounds == Box((0, 0, 0), (25, 33, 15))
    assert Pyramid().phases(BlockGrid(Box((0, 0, 0), (64, 64, 64)), (8, 8, 8))) == ()


def test_parameters_that_make_no_scale_are_named() -> None:
    grid = BlockGrid(BOUNDS, (4, 4, 4))
    assert Pyramid(factors=((2, 2, 2), (1, 1, 1))).check(grid) == [
        "factors: level 2 has the size of the one before; expected a factor of 2 along at least "
        "one axis"
    ]
    assert Pyramid(levels=1, factors=((2, 2, 2), (1, 2, 2))).check(grid) == [
        "factors: expected those of at most 1 levels; got 2"
    ]
    with pytest.raises(ValueError, match="less than or equal to 2"):
        Pyramid(factors=((2, 2, 3),))
    assert find_stage("pyramid") is Pyramid


@pytest.mark.parametrize("part", [(64, 64, 64), (5, 6, 7), (9, 1, 100)])
def test_written_by_the_engine_scale_by_scale(
    tmp_path: Path, part: Triple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd bounds, blocks that leave half a voxel at both ends, two volumes, one factor each."""
    monkeypatch.setattr("volflow.stages.pyramid.PART", part)
    steps = [
        {"use": "synth", "with": {"cell": 10}},
        {"use": "pyramid", "with": {"levels": 3}, "in": {"labels": "truth"}},
        {
            "use": "pyramid",
            "name": "of_em",
            "with": {"kind": "image", "levels": 2, "factors": [[1, 2, 2]]},
            "in": {"labels": "em"},
        },
    ]
    pipeline = {
        "run": str(tmp_path),
        "block": [16, 24, 32],
        "bounds": "3:34,-5:32,7:40",
        "resolution": [20, 10, 10],
        "volumes": {"truth": {"chunk": [4, 4, 4]}, "em": {"chunk": [8, 8, 8]}},
        "steps": steps,
    }
    assert volflow.run(pipeline).ok
    for name, factors in {"truth": [(2, 2, 2)] * 3, "em": [(1, 2, 2), (2, 2, 2)]}.items():
        scales = [
            Volume.open(VolumeSpec(path=f"precomputed://{tmp_path}/{name}", level=level))
            for level in range(len(factors) + 1)
        ]
        assert scales[0].scales == len(scales)
        for fine, coarse, factor in zip(scales, scales[1:], factors, strict=False):
            assert coarse.bounds == fine.bounds.zoom_out(factor)
            expected = slow_pool(fine.read(fine.bounds), fine.bounds, factor, name == "truth")
            np.testing.assert_array_equal(coarse.read(coarse.bounds), expected)


def test_a_part_is_made_of_whole_chunks_of_what_is_read() -> None:
    grid = BlockGrid(Box((0, 0, 0), (400, 400, 400)), (128, 128, 128))
    first = Pyramid(factors=((1, 2, 2),)).phases(grid)[0]
    assert first.part_of((128, 128, 128)) == (128, 64, 64)
    assert first.part_of((20, 20, 400)) == (60, 60, 200)
    with pytest.raises(ValueError, match="'map' does not compute its blocks in parts"):
        Phase("map", "map", grid).part_of((1, 1, 1))


def test_memory_grows_with_the_block_written_not_with_what_it_stands_for(tmp_path: Path) -> None:
    needs = []
    for side in (256, 512):
        planned = make_plan(
            {
                "run": str(tmp_path),
                "block": [side] * 3,
                "bounds": "0:1024,0:1024,0:1024",
                "resolution": [8, 8, 8],
                "steps": [{"use": "synth"}, {"use": "pyramid", "in": {"labels": "truth"}}],
            }
        )
        needs.append(planned.step("pyramid").memory["scale.1"])
    assert needs[1] - needs[0] == 2 * 8 * (512**3 - 256**3)
