"""The volumes that the pipelines of `plan_cases` read, and a folder to plan in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.engine.plan.plan_cases import BOUNDS
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume


def stored(path: Path, dtype: str, channels: int, bounds: Box, resolution: Any) -> None:
    layer = Layer(dtype, channels)
    volume, _ = Volume.create(VolumeSpec(path=str(path)), layer, bounds, resolution, (64, 64, 64))
    leading = (channels,) if channels else ()
    volume.write(bounds, np.ones((*leading, *bounds.shape), dtype))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    stored(folder / "affinity.zarr", "uint8", 3, BOUNDS, (10, 8, 8))
    stored(folder / "mask.zarr", "uint8", 0, BOUNDS.zoom_out((2, 4, 4)), (20, 32, 32))
    stored(folder / "em.zarr", "uint8", 0, BOUNDS, (10, 8, 8))
    stored(folder / "float.zarr", "float32", 3, BOUNDS, (10, 8, 8))
    stored(folder / "two.zarr", "uint8", 2, BOUNDS, (10, 8, 8))
    stored(folder / "signed.zarr", "int32", 0, BOUNDS, (10, 8, 8))
    stored(folder / "coarse.zarr", "uint8", 0, BOUNDS, (10, 16, 16))
    stored(folder / "odd.zarr", "uint8", 0, BOUNDS, (10, 12, 8))
    stored(folder / "far.zarr", "uint8", 0, BOUNDS.shift((0, 500, 0)), (10, 8, 8))
    stored(folder / "small.zarr", "uint8", 0, Box((4, 0, 10), (44, 70, 50)), (10, 8, 8))
    tifffile.imwrite(folder / "plain.tif", np.ones((40, 70, 50), "uint8"))
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / ".zarray").write_text("{")
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
