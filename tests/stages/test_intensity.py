"""Quantiles of a volume are the same whatever the blocks, and passed to every one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.stages.contract import Case, StageContract, filled
from tests.strategies import triples
from volflow import run as run_pipeline
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer, PreviousRound, Record, find_stage
from volflow.io.volume import Volume
from volflow.predict.intensity import intensity_quantiles, intensity_range
from volflow.stages.intensity import Intensity

BOUNDS = Box((2, -3, 5), (11, 8, 13))
RANDOM = np.random.default_rng(0)
EM = RANDOM.integers(3000, 9000, BOUNDS.shape).astype("uint16")
MASK = RANDOM.random(BOUNDS.shape) < 0.7
MASK[4:] = False


class TestIntensity(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Intensity(), BOUNDS, {"em": EM})


def quantiles(shape: Triple, skip_empty: bool) -> list[np.ndarray]:
    """The quantiles that each block receives, once up the pyramid and down again."""
    stage = Intensity()
    passed: dict[str, dict[Triple, Record]] = {}
    remaining: dict[str, dict[Triple, Record]] = {}
    reported: dict[Triple, Record] = {}
    actual = []
    for phase in stage.phases(BlockGrid(BOUNDS, shape)):
        passed[phase.name], remaining[phase.name], down = {}, {}, {}
        for block in phase.grid:
            i = block.index
            if phase.kind == "leaf":
                em, mask = (filled(a, BOUNDS, block.read) for a in (EM, MASK))
                if skip_empty and not mask.any():
                    em = em * 0  # as the engine gives it
                up = stage.leaf(block, "total", None, em=em, mask=mask)
                passed[phase.name][i], remaining[phase.name][i] = up.passed, up.retained
            elif phase.kind == "join":
                assert phase.below is not None
                below = passed[f"total.up.{phase.level - 1}"]
                up = stage.join(
                    block, "total", [below[c.index] for c in phase.below.children(block)]
                )
                passed[phase.name][i], remaining[phase.name][i] = up.passed, up.retained
            elif phase.kind == "split":
                assert phase.below is not None
                received = None if phase.root else reported[i]
                parts = stage.split(
                    block, "total", remaining[f"total.up.{phase.level}"][i], received
                )
                children = phase.below.children(block)
                down |= {c.index: part for c, part in zip(children, parts, strict=True)}
            else:
                previous = PreviousRound(remaining["total.up.0"][i], reported.get(i))
                record = stage.finish(block, previous)["intensity"]
                assert isinstance(record, dict)
                actual.append(record["quantiles"])
        reported = down or reported
    return actual


@settings(max_examples=15, deadline=None)
@given(triples(2, 12))
def test_every_block_is_reported_the_same_whatever_the_blocks(shape: Triple) -> None:
    values = np.sort(EM[MASK])
    places = np.maximum(1, np.ceil(np.arange(1001) / 1000 * len(values))).astype(int) - 1
    for skip_empty in (False, True):
        actual = quantiles(shape, skip_empty)
        assert len(actual) == len(BlockGrid(BOUNDS, shape))
        for record in actual:
            np.testing.assert_array_equal(record, values[places])


def test_quantiles_are_those_of_the_range() -> None:
    histogram = np.bincount(RANDOM.integers(0, 256, 12345) ** 2 // 256, minlength=256)
    actual = intensity_quantiles(histogram)
    for low, high in ((0.01, 0.99), (0.001, 0.5), (0.07, 0.58), (0.0, 1.0)):
        expected = intensity_range(histogram, low, high)
        assert (actual[round(1000 * low)], actual[round(1000 * high)]) == expected


def test_low_is_below_high() -> None:
    with pytest.raises(ValueError, match="expected low below high"):
        Intensity(low=0.5, high=0.5)


def test_a_run_tells_the_intensities_within_mask_and_sections(tmp_path: Path) -> None:
    for name, array in (("em", EM), ("mask", MASK.astype("uint8"))):
        spec = VolumeSpec(path=f"zarr://{tmp_path}/{name}.zarr")
        layer = Layer(str(array.dtype), 0)
        volume, _ = Volume.create(spec, layer, BOUNDS, (8, 8, 8), (64, 64, 64))
        volume.write(BOUNDS, array)
    source: dict[str, Any] = {
        "run": str(tmp_path / "out"),
        "block": [4, 4, 4],
        "volumes": {n: {"path": f"zarr://{tmp_path}/{n}.zarr"} for n in ("em", "mask")},
        "mask": "mask",
        "bad_sections": [3],
        "steps": [{"use": "intensity", "with": {"low": 0.1, "high": 0.8}}],
    }
    result = run_pipeline(source)
    seen = np.sort(np.concatenate([EM[:1][MASK[:1]], EM[2:][MASK[2:]]]))
    n = len(seen)
    assert result.ok
    assert result.results["intensity"] == {
        "low": seen[int(np.ceil(0.1 * n)) - 1],
        "high": seen[int(np.ceil(0.8 * n)) - 1],
        "least": seen[0],
        "most": seen[-1],
        "voxels": n,
    }


def test_a_volume_that_is_all_masked_is_an_error() -> None:
    stage = Intensity()
    (block,) = BlockGrid(BOUNDS, BOUNDS.shape)
    up = stage.leaf(block, "total", None, em=EM, mask=np.zeros(EM.shape, bool))
    with pytest.raises(ValueError, match="expected at least one voxel, got none"):
        stage.finish(block, PreviousRound(up.retained, None))


def test_found_by_its_name() -> None:
    assert find_stage("intensity") is Intensity
