"""The overview, pixel by pixel, and the figure around its planes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

from tests.view.paint import BOUNDS, FIRST, expected, painted
from volflow.view.layers import run_layers
from volflow.view.report.run.figure import (
    INK,
    Axis,
    Panel,
    draw_figure,
    length_text,
    panel_positions,
    scale_bar,
    ticks,
)
from volflow.view.report.run.overlay import OPACITY, label_colours, overlay, stretch_contrast
from volflow.view.report.run.overview import arrange, crop, overview
from volflow.view.report.run.segments import segment_sizes


def enlarged(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.repeat(np.repeat(plane, rows, 0), columns, 1)


def test_the_overview_shows_the_middle_planes_in_square_pixels(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    assert (drawn.image, drawn.labels, drawn.middle) == ("em", "segmentation", (32, 32, 56))
    assert drawn.pixel_nm == 2.5  # a quarter of the finest side of a voxel: 8 pixels to a section

    whole = expected()
    em, labels = whole["em"], whole["segmentation"]
    z, y, x = (m - a for m, a in zip(drawn.middle, BOUNDS.start, strict=True))
    planes = [(em[z], labels[z]), (em[:, y], labels[:, y]), (em[:, :, x], labels[:, :, x])]
    zooms = [(4, 4), (8, 4), (8, 4)]
    greys = [
        enlarged(e, *zoom).astype("float32") for (e, _), zoom in zip(planes, zooms, strict=True)
    ]
    low, high = np.percentile(np.concatenate([grey.ravel() for grey in greys]), [1, 99])
    greys = [stretch_contrast(grey, low, high) for grey in greys]
    across_z, across_y, across_x = (
        overlay(grey, enlarged(ids, *zoom))
        for grey, (_, ids), zoom in zip(greys, planes, zooms, strict=True)
    )
    alone = np.repeat(greys[0][..., np.newaxis], 3, axis=-1)  # 256 x 320, no deeper than 384
    expectation = [[across_z, across_x.transpose(1, 0, 2)], [across_y, alone]]
    for row, pixels in zip(drawn.grid, expectation, strict=True):
        for panel, array in zip(row, pixels, strict=True):
            assert_array_equal(panel.pixels, array)
    for panel, left, top in panel_positions(drawn.grid):
        height, width = panel.pixels.shape[:2]
        assert_array_equal(drawn.pixels[top : top + height, left : left + width], panel.pixels)


def test_panels_carry_their_axes_in_voxels(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    (across_z, across_x), (across_y, alone) = drawn.grid
    assert [p.title for p in (across_z, across_x, across_y, alone)] == [
        "z = 32", "x = 56", "y = 32", "em alone, z = 32",
    ]  # fmt: skip
    z, y, x = Axis("z", 8, 8.0), Axis("y", 0, 4.0), Axis("x", 16, 4.0)
    assert (across_z.rows, across_z.columns) == (y, x)
    assert (across_x.rows, across_x.columns) == (y, z)
    assert (across_y.rows, across_y.columns) == (z, x)


def test_no_quarter_of_a_figure_is_empty() -> None:
    def panel(height: int, width: int) -> Panel:
        return Panel(np.zeros((height, width, 3), np.uint8), "", Axis("y", 0, 1), Axis("x", 0, 1))

    z, y, x, alone = panel(300, 300), panel(200, 300), panel(300, 200), panel(200, 200)
    assert arrange((z, y, x), alone, deep=True) == [[z, x], [y, alone]]
    assert arrange((z, y, x), None, deep=True) == [[z, x, y]]
    thin_y, thin_x = panel(3, 300), panel(300, 3)
    assert arrange((z, thin_y, thin_x), None, deep=False) == [[z]]
    tiny = panel(4, 4)
    assert arrange((tiny, tiny, tiny), None, deep=False) == [[tiny]]


def test_the_middle_of_a_panel_keeps_its_coordinates() -> None:
    pixels = np.arange(40 * 60 * 3).reshape(40, 60, 3)
    whole = Panel(pixels, "z = 3", Axis("y", 10, 4.0), Axis("x", 100, 2.0))
    part = crop(whole, pixels, 20, "em")
    assert_array_equal(part.pixels, pixels[10:30, 20:40])
    assert (part.rows.start, part.columns.start) == (12.5, 110.0)
    assert part.title == "em, z = 3"


# --- figure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "pixel_nm", "length", "label"),
    [
        (200, 2.5, 200, "500 nm"),
        (200, 3.0, 167, "500 nm"),
        (199, 10.0, 100, "1 µm"),
        (200, 30.0, 167, "5 µm"),
        (150, 1e4, 100, "1 mm"),
    ],
)
def test_a_scale_bar_is_a_round_length(
    most: float, pixel_nm: float, length: int, label: str
) -> None:
    assert scale_bar(most, pixel_nm, 1.0) == (length, label)


def test_without_a_resolution_the_scale_bar_counts_voxels() -> None:
    assert scale_bar(200, None, 4.0) == (200, "50 voxels")
    assert scale_bar(6, None, 4.0) == (4, "1 voxel")


@given(st.floats(0.01, 1e5), st.floats(60, 400))
def test_a_scale_bar_fits_and_is_not_short(pixel_nm: float, most: float) -> None:
    length, _ = scale_bar(most, pixel_nm, 1.0)
    assert most / 2.5 - 1 <= length <= most + 1


def test_lengths_have_the_unit_that_suits_them() -> None:
    assert [length_text(nm) for nm in (0.5, 200, 1000, 2500, 2e6)] == [
        "0.5 nm", "200 nm", "1 µm", "2.5 µm", "2 mm",
    ]  # fmt: skip


def test_ticks_are_at_round_voxels_inside_the_panel() -> None:
    assert ticks(Axis("x", 16, 4.0), 320) == [(16.0, "20"), (96.0, "40"), (176.0, "60"),
                                              (256.0, "80")]  # fmt: skip
    assert ticks(Axis("x", -3, 0.125), 200) == [(0.375, "0"), (62.875, "500"), (125.375, "1,000"),
                                                (187.875, "1,500")]  # fmt: skip


@given(st.floats(0.01, 8), st.integers(-10_000, 10_000), st.integers(1, 700))
def test_ticks_do_not_crowd(scale: float, start: int, length: int) -> None:
    places = [place for place, _ in ticks(Axis("x", start, scale), length)]
    assert all(0 <= place < length + scale for place in places)
    assert all(b - a >= 40 for a, b in pairwise(places))


def test_a_figure_has_a_scale_bar_of_the_stated_length(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    dark = (drawn.pixels == INK).all(axis=-1).sum(axis=1)  # a bar of 80 pixels, 2.5 nm each
    length, label = scale_bar(0.3 * 384, 2.5, 4.0)
    assert (length, label) == (80, "200 nm")
    assert dark[-60:].max() >= length
    panel = drawn.grid[0][0]
    without = draw_figure([[panel]], pixel_nm=None, voxel=4.0, legend="")
    assert without.shape != drawn.pixels.shape


# --- a run ---------------------------------------------------------------------------------------


def test_the_run_leaves_that_picture(run: Path) -> None:
    drawn = overview(run_layers(str(run)))
    assert drawn is not None
    stored = imagecodecs.png_decode((run / "overview.png").read_bytes())
    assert_array_equal(stored, drawn.pixels)
    assert len(np.unique(stored.reshape(-1, 3), axis=0)) > 50


def test_segments_are_counted_with_their_sizes(run: Path) -> None:
    sizes = segment_sizes(run_layers(str(run)))
    assert sizes is not None
    labels = expected()["segmentation"]
    _, counts = np.unique(labels[labels != 0], return_counts=True)
    voxel = 20 * 10 * 10 * 1e-9  # µm³
    assert (sizes.layer, sizes.number, sizes.unit) == ("segmentation", len(counts), "µm³")
    assert sizes.median == pytest.approx(np.median(counts) * voxel)
    assert sizes.largest == pytest.approx(counts.max() * voxel)
    assert sizes.background == pytest.approx((labels == 0).mean())
    assert sizes.voxel_nm is None
    assert labels.max() >= FIRST


def test_large_segmentations_are_counted_at_a_coarser_scale(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volflow.view.report.run import segments

    layers = run_layers(str(run))
    scales = layers.first("segmentation", "segmentation").scales  # type: ignore[union-attr]
    monkeypatch.setattr(segments, "VOXELS", scales[1].bounds.size)
    sizes = segment_sizes(layers)
    assert sizes is not None
    assert sizes.voxel_nm == scales[1].resolution
    assert "very small segments may be missing" in sizes.sentence()
    monkeypatch.setattr(segments, "VOXELS", 1)
    assert segment_sizes(layers) is None


def test_only_segments_of_the_run_itself_are_counted(run: Path) -> None:
    layers = run_layers(str(run))
    foreign = tuple(replace(layer, written=False) for layer in layers.layers)
    assert segment_sizes(replace(layers, layers=foreign)) is None


def test_a_pixel_mixes_grey_and_the_colour_of_its_label() -> None:
    labels = np.zeros((5, 5), np.uint64)
    labels[1:4, 1:4] = 1 << 60
    actual = overlay(np.full((5, 5), 100, np.uint8), labels)
    colour = label_colours(np.array([1 << 60], np.uint64))[0].astype(float)
    assert actual[0, 0].tolist() == [100, 100, 100]
    assert actual[2, 2] == pytest.approx(100 * (1 - OPACITY) + colour * OPACITY, abs=0.51)
    assert actual[3, 2] == pytest.approx(5 + 0.95 * colour, abs=0.51)  # the border below it
    assert actual[4, 2].tolist() == [100, 100, 100]  # 0 stays clear, its border too


def test_neighbouring_ids_have_colours_that_differ() -> None:
    ids = np.arange(1, 400, dtype=np.uint64)
    actual = label_colours(ids).astype(int)
    apart = np.abs(np.diff(actual, axis=0)).sum(axis=1)
    assert np.median(apart) > 120
    assert (actual.max(axis=1) >= 170).all()  # none is dark
    assert (actual.max(axis=1) - actual.min(axis=1) > 100).all()  # none is grey
    assert_array_equal(label_colours(ids[::-1].astype("int64"))[::-1], actual)


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_grey_values_are_bytes_whatever_comes(values: np.ndarray) -> None:
    assert stretch_contrast(values, 0.0, 1.0).dtype == np.uint8
    assert stretch_contrast(values, 0.5, 0.5).shape == values.shape


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    layers = run_layers(str(tmp_path / "run"))
    assert overview(replace(layers, layers=())) is None


def test_without_an_image_the_mean_affinity_is_the_background(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    layers = run_layers(str(tmp_path / "run"))
    rest = tuple(layer for layer in layers.layers if layer.name != "em")
    drawn = overview(replace(layers, layers=rest))
    assert drawn is not None
    assert (drawn.image, drawn.labels) == ("affinity", "segmentation")
    assert drawn.pixels.max() > 150


def test_a_single_layer_is_drawn_in_one_row(tmp_path: Path) -> None:
    painted(tmp_path / "run")
    layers = run_layers(str(tmp_path / "run"))
    drawn = overview(replace(layers, layers=layers.layers[:1]))
    assert drawn is not None
    assert [[panel.title for panel in row] for row in drawn.grid] == [
        ["z = 32", "x = 56", "y = 32"]
    ]
