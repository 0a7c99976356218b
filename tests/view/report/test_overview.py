"""The overview, pixel by pixel, and how little of a volume it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

from tests.view.paint import BOUNDS, RESOLUTION, expected, painted
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.view.neuroglancer.layers import run_layers
from volflow.view.report.overview import (
    BACKGROUND,
    GAP,
    OPACITY,
    colours,
    mid_planes,
    overlay,
    overview,
    stretched,
)
from volflow.view.report.planes import Frame, affordable, sample


def test_the_overview_shows_the_middle_planes_in_square_pixels(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    assert (drawn.image, drawn.labels, drawn.middle) == ("em", "segmentation", (32, 32, 56))
    assert drawn.pixel_nm == 2.5  # a quarter of the finest side of a voxel: 8 pixels to a section
    depth, height, width = 48 * 8, 64 * 4, 80 * 4
    assert drawn.pixels.shape == (height + GAP + depth, width + GAP + depth, 3)

    whole = expected()
    em, labels = whole["em"], whole["segmentation"]
    z, y, x = (m - a for m, a in zip(drawn.middle, BOUNDS.start, strict=True))
    planes = [(em[z], labels[z]), (em[:, y], labels[:, y]), (em[:, :, x], labels[:, :, x])]
    values = np.concatenate(
        [np.repeat(np.repeat(e, r, 0), c, 1).ravel() for (e, _), (r, c) in zip(
            planes, [(4, 4), (8, 4), (8, 4)], strict=True)]
    )  # fmt: skip
    low, high = np.percentile(values, [1, 99])
    grown = [
        overlay(
            stretched(np.repeat(np.repeat(e, r, 0), c, 1).astype("float32"), low, high),
            np.repeat(np.repeat(found, r, 0), c, 1),
        )
        for (e, found), (r, c) in zip(planes, [(4, 4), (8, 4), (8, 4)], strict=True)
    ]
    assert_array_equal(drawn.pixels[:height, :width], grown[0])
    assert_array_equal(drawn.pixels[height + GAP :, :width], grown[1])
    assert_array_equal(drawn.pixels[:height, width + GAP :], grown[2].transpose(1, 0, 2))
    assert (drawn.pixels[height + GAP :, width + GAP :] == BACKGROUND).all()


def test_the_run_leaves_that_picture(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    stored = imagecodecs.png_decode((run / "overview.png").read_bytes())
    assert_array_equal(stored, drawn.pixels)
    assert len(np.unique(stored.reshape(-1, 3), axis=0)) > 50


def test_a_pixel_mixes_grey_and_the_colour_of_its_label() -> None:
    labels = np.zeros((5, 5), np.uint64)
    labels[1:4, 1:4] = 1 << 60
    found = overlay(np.full((5, 5), 100, np.uint8), labels)
    colour = colours(np.array([1 << 60], np.uint64))[0].astype(float)
    assert found[0, 0].tolist() == [100, 100, 100]
    assert found[2, 2] == pytest.approx(100 * (1 - OPACITY) + colour * OPACITY, abs=0.51)
    assert found[3, 2] == pytest.approx(5 + 0.95 * colour, abs=0.51)  # the border below it
    assert found[4, 2].tolist() == [100, 100, 100]  # 0 stays clear, its border too


def test_neighbouring_ids_have_colours_that_differ() -> None:
    ids = np.arange(1, 400, dtype=np.uint64)
    found = colours(ids).astype(int)
    apart = np.abs(np.diff(found, axis=0)).sum(axis=1)
    assert np.median(apart) > 120
    assert (found.max(axis=1) >= 170).all()  # none is dark
    assert (found.max(axis=1) - found.min(axis=1) > 100).all()  # none is grey
    assert_array_equal(colours(ids[::-1].astype("int64"))[::-1], found)


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_grey_values_are_bytes_whatever_comes(values: np.ndarray) -> None:
    assert stretched(values, 0.0, 1.0).dtype == np.uint8
    assert stretched(values, 0.5, 0.5).shape == values.shape


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    layers = run_layers(str(tmp_path / "run"))
    none = type(layers)(layers.address, layers.pipeline, (), ())
    assert overview(none) is None


def test_without_an_image_the_mean_affinity_is_the_ground(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    layers = run_layers(str(tmp_path / "run"))
    rest = tuple(layer for layer in layers.layers if layer.name != "em")
    drawn = overview(type(layers)(layers.address, layers.pipeline, rest, ()))
    assert drawn is not None
    assert (drawn.image, drawn.labels) == ("affinity", "segmentation")
    assert drawn.pixels.max() > 150


# --- planes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scales(run: Path) -> list[Volume]:
    spec = VolumeSpec(path=f"precomputed://{run}/segmentation")
    return run_layers(str(run)).first("segmentation", "segmentation").scales or [spec]  # type: ignore[union-attr]


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
    found = sample(scales, (1, 1, 1), Frame(0, 1e6, (0.0, 0.0), 10.0, (4, 5)))
    assert_array_equal(found, np.zeros((4, 5), "uint64"))
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
