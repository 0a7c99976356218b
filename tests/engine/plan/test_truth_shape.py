"""A truth that does not cover the segmentation is reported before anything starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.api import make_plan
from volflow.errors import PlanError
from volflow.io.volume import Volume

IMAGE = Box((0, 0, 0), (64, 64, 64))


def written(path: Path, layer: Layer, box: Box) -> str:
    address = f"zarr://{path}"
    volume, _ = Volume.create(VolumeSpec(path=address), layer, box, (10, 10, 10), (64, 64, 64))
    leading = (layer.channels,) if layer.channels else ()
    volume.write(box, np.ones((*leading, *box.shape), layer.dtype))
    return address


def overrides(tmp_path: Path, pipeline: str, truth: Box) -> list[str]:
    image = "em" if "fib25" in pipeline else "affinity"
    layer = Layer("uint8", 0, "image") if image == "em" else Layer("uint8", 3, "affinity")
    return [
        f"run={tmp_path}/run",
        "block=[64,64,64]",
        f"volumes.{image}.path={written(tmp_path / 'image.zarr', layer, IMAGE)}",
        "volumes.truth.path="
        + written(tmp_path / "truth.zarr", Layer("uint64", 0, "segmentation"), truth),
    ]


@pytest.mark.parametrize("pipeline", ["fib25_and_score", "segment_and_score"])
@pytest.mark.parametrize("stop", [(63, 64, 64), (64, 64, 32)])
def test_a_truth_smaller_than_the_image_is_one_mistake(tmp_path, pipeline, stop):
    options = overrides(tmp_path, pipeline, Box((0, 0, 0), stop))
    with pytest.raises(PlanError) as caught:
        make_plan(pipeline, overrides=options)
    (mistake,) = caught.value.problems
    has = ",".join(f"0:{n}" for n in stop)
    assert f"bounds {IMAGE} extend beyond volume 'truth', which is {has}" in mistake
    assert "volumes.truth" in mistake
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("pipeline", ["fib25_and_score", "segment_and_score"])
def test_bounds_within_a_smaller_truth_and_a_larger_truth_are_well(tmp_path, pipeline):
    options = overrides(tmp_path, pipeline, Box((0, 0, 0), (64, 64, 32)))
    assert make_plan(pipeline, overrides=options, bounds="0:64,0:64,0:32").steps
    larger = overrides(tmp_path / "larger", pipeline, Box((0, 0, 0), (80, 64, 64)))
    assert make_plan(pipeline, overrides=larger).bounds == IMAGE
