"""The stage `borders`: its blocks, its range, and its errors for bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.stages.contract import Case, StageContract
from tests.stages.contract import run as run_stage
from volflow import run
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Layer
from volflow.engine.api import make_plan
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.predict.intensity import intensity_histogram, intensity_range, normalise
from volflow.segment.borders import moved_borders
from volflow.stages.borders import Borders

BOUNDS = Box((2, -3, 7), (14, 10, 21))


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = BOUNDS.shape
    return {
        "segments": rng.integers(0, 4, shape).astype(np.uint64),
        "affinity": rng.integers(0, 256, (3, *shape), dtype=np.uint8),
        "em": rng.integers(0, 256, shape, dtype=np.uint8),
    }


class TestBorders(StageContract):
    @pytest.fixture
    def case(self) -> Case:
        return Case(Borders(range=(20, 230)), BOUNDS, drawn(0))


def written(folder: Path, volumes: dict[str, np.ndarray]) -> dict[str, dict[str, str]]:
    actual = {}
    for name, array in volumes.items():
        layer = Layer(str(array.dtype), 3 if array.ndim == 4 else 0)
        spec = VolumeSpec(path=f"zarr://{folder}/{name}.zarr")
        volume, _ = Volume.create(spec, layer, BOUNDS, (10, 10, 10), (8, 8, 8))
        volume.write(BOUNDS, array)
        actual[name] = {"path": spec.path}
    return actual


def test_the_range_is_that_of_the_whole_volume_whatever_the_blocks(tmp_path: Path) -> None:
    volumes = drawn(1)
    volumes["em"] = (volumes["em"] // 2 + 60).astype(np.uint8)
    low, high = intensity_range(intensity_histogram(volumes["em"]))
    bright = 6 * normalise(volumes["em"], low, high)
    wanted = moved_borders(volumes["segments"], volumes["affinity"], bright)
    assert (wanted != volumes["segments"]).any()
    inputs = written(tmp_path, volumes)
    for number, block in enumerate([(12, 13, 14), (5, 4, 7), (3, 13, 2)]):
        out = f"{tmp_path}/run{number}"
        steps = [{"use": "intensity"}, {"use": "borders"}]
        done = run({"run": out, "block": list(block), "volumes": inputs, "steps": steps})
        assert done.ok, done.failures
        actual = Volume.open(VolumeSpec(path=f"precomputed://{out}/segmentation")).read(BOUNDS)
        np.testing.assert_array_equal(actual, wanted)


def test_bright_membranes_are_asked_for_by_a_negative_brightness() -> None:
    volumes, bounds = drawn(2), BOUNDS
    dark = Borders(brightness=12, range=(0, 255))
    bright = Borders(brightness=-12, range=(0, 255))
    inverted = {**volumes, "em": 255 - volumes["em"]}
    wanted = run_stage(Case(dark, bounds, volumes), bounds.shape)["segmentation@0"]
    actual = run_stage(Case(bright, bounds, inverted), bounds.shape)["segmentation@0"]
    np.testing.assert_array_equal(actual, wanted)


def test_nothing_tells_the_range(tmp_path: Path) -> None:
    inputs = written(tmp_path, drawn(0))
    pipeline = {"run": f"{tmp_path}/run", "block": [8, 8, 8], "volumes": inputs}
    with pytest.raises(PlanError, match="add `- use: intensity` before this step, or give range"):
        make_plan({**pipeline, "steps": [{"use": "borders"}]})
    given = [{"use": "borders", "with": {"range": [0, 255]}}]
    assert make_plan({**pipeline, "steps": given}).steps


def test_floats_and_a_range_the_wrong_way_are_reported(tmp_path: Path) -> None:
    volumes = drawn(0)
    volumes["em"], volumes["segments"] = (
        volumes[name].astype(np.float32) for name in ("em", "segments")
    )
    inputs = written(tmp_path, volumes)
    pipeline = {"run": f"{tmp_path}/run", "block": [8, 8, 8], "volumes": inputs}
    steps = [{"use": "borders", "with": {"range": [0, 255]}}]
    with pytest.raises(PlanError) as caught:
        make_plan({**pipeline, "steps": steps})
    reported = "\n".join(caught.value.problems)
    assert "em: expected uint8 or uint16; got float32" in reported
    assert "segments: expected unsigned integers; got float32" in reported
    with pytest.raises(ValueError, match=r"expected \[LOW, HIGH\] with LOW below HIGH"):
        Borders(range=(255, 0))


def test_a_constant_image_has_no_borders() -> None:
    volumes = drawn(0)
    reported = {"quantiles": np.full(1001, 80, np.int64)}
    (block,) = BlockGrid(BOUNDS, BOUNDS.shape)
    with pytest.raises(
        ValueError, match="the image is constant: 98% of its voxels have the intensity 80"
    ):
        Borders().run(block, **volumes, intensity=reported)
