"""Planes through a volume: their pixels, and how little of it they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.view.paint import BOUNDS, RESOLUTION, expected
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.view.layers import run_layers
from volflow.view.planes import Frame, affordable, mid_planes, sample


@pytest.fixture(scope="module")
def scales(run: Path) -> list[Volume]:
    layer = run_layers(str(run)).first("segmentation", "segmentation")
    assert layer is not None
    return layer.scales


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_in_voxels_is_a_slice(scales: list[Volume], axis: int) -> None:
    whole = expected()["segmentation"]
    place = 27
    side = RESOLUTION[axis]
    first, second = (other for other in range(3) if other != axis)
    steps = RESOLUTION[first], RESOLUTION[second]
    pixel = 10.0
    frame = Frame(
        axis,
        (BOUNDS.start[axis] + place + 0.5) * side,
        (BOUNDS.start[first] * steps[0], BOUNDS.start[second] * steps[1]),
        pixel,
        tuple(
            int(BOUNDS.shape[a] * s / pixel) for a, s in zip((first, second), steps, strict=True)
        ),  # type: ignore[arg-type]
    )
    plane = np.take(whole, place, axis)
    plane = np.repeat(plane, int(steps[0] / pixel), 0)
    assert_array_equal(sample(scales[:1], (1, 1, 1), frame), plane)
    assert plane.any()


def test_coarse_pixels_are_read_from_a_coarse_scale(scales: list[Volume]) -> None:
    assert len(scales) > 1
    read: list[str] = []

    class Spy:
        def __init__(self, volume: Volume) -> None:
            self.volume = volume

        def __getattr__(self, name: str) -> Any:
            return getattr(self.volume, name)

        def read(self, box: Box) -> np.ndarray:
            read.append(str(self.volume.resolution))
            return self.volume.read(box)

    spies: Any = [Spy(volume) for volume in scales]
    for pixel in (5.0, max(scales[-1].resolution or ())):
        sample(spies, (1, 1, 1), Frame(0, 300.0, (0.0, 200.0), pixel, (9, 9)))
    assert read == [str(scales[0].resolution), str(scales[-1].resolution)]


def test_outside_the_volume_is_0(scales: list[Volume]) -> None:
    actual = sample(scales, (1, 1, 1), Frame(0, 1e6, (0.0, 0.0), 10.0, (4, 5)))
    assert_array_equal(actual, np.zeros((4, 5), "uint64"))
    left = sample(scales, (1, 1, 1), Frame(0, 320.0, (0.0, -1e6), 10.0, (4, 5)))
    assert_array_equal(left, np.zeros((4, 5), "uint64"))


def test_no_plane_reads_more_than_its_budget(tmp_path: Path) -> None:
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/big")
    bounds = Box((0, 0, 0), (4000, 8000, 9000))
    volume, _ = Volume.create(spec, Layer("uint8", 0, "image"), bounds, (1, 1, 1), (1, 4000, 4500))
    section = 4000 * 4500
    across = Box((0, 4000, 0), (4000, 4001, 9000))
    part = affordable(volume, across, budget=20 * section)
    assert 0 < part.shape[0] <= 20
    assert across.covers(part)
    assert part.start[0] < 2000 <= part.stop[0]
    assert affordable(volume, across, budget=1).size > 0
    flat = Box((7, 0, 0), (8, 8000, 9000))
    assert affordable(volume, flat, budget=4 * section) == flat


def test_a_small_volume_is_enlarged_and_a_large_one_fits(tmp_path: Path) -> None:
    spec = VolumeSpec(path=f"precomputed://{tmp_path}/v")
    bounds = Box((0, 0, 0), (100, 20000, 10000))
    volume, _ = Volume.create(spec, Layer("uint8", 0, "image"), bounds, (40, 4, 4), (64, 64, 64))
    frames = list(mid_planes(volume, (40.0, 4.0, 4.0)))
    assert [frame.shape for frame in frames] == [(640, 320), (32, 320), (32, 640)]
