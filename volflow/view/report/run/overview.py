"""The overview of a run: its segments over its image, in three planes through the middle.

```
z plane | x plane        rows y, columns x | rows y, columns z
y plane | image alone    rows z, columns x | the middle of the z plane without colours
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from volflow.core.geometry import Box, Resolution
from volflow.view.layers import LayerSet, StoredLayer
from volflow.view.planes import Frame, mid_planes, sample
from volflow.view.report.run.figure import Axis, Panel, draw_figure
from volflow.view.report.run.overlay import grey_to_rgb, overlay, stretch_contrast

BLANK = 24  # grey value where there is no image
THIN, LARGE = 8, 96  # pixels: thinner planes are left out, larger corners are filled
NARROW = 430  # pixels along the longest side where the three planes stand in one row
AXES = "zyx"


@dataclass(frozen=True)
class Overview:
    """A picture and a description of it.

    Parameters
    ----------
    pixels : uint8 array, (H, W, 3)
    grid : rows of Panel
        The planes in it.
    pixel_nm : float
        Side of a pixel.
    middle : 3 int
        The voxel z, y, x that all three planes go through.
    image, labels : str
        Names of the layers shown; empty where there is none.
    """

    pixels: np.ndarray
    grid: tuple[tuple[Panel, ...], ...]
    pixel_nm: float
    middle: tuple[int, int, int]
    image: str
    labels: str

    def png(self) -> bytes:
        """The picture as a PNG file."""
        return bytes(imagecodecs.png_encode(self.pixels, level=4))


def overview(layers: LayerSet) -> Overview | None:
    """Draw the layers of a run: `em` or the mean affinity in grey, segments in colour.

    Three planes are read, at the scale that fits the picture. Of several segmentations the one
    named `segmentation`, or else the last one written, is shown, unless it is still empty.

    Returns
    -------
    Overview or None
        None if there is neither image nor segmentation.
    """
    image = layers.first("image", "em") or layers.first("affinity", "affinity")
    candidates = layers.of_kind("segmentation")
    candidates.sort(key=lambda layer: layer.name != "segmentation")
    anchor = candidates[0] if candidates else image
    if anchor is None:
        return None
    volume = anchor.scales[0]
    resolution = volume.resolution or layers.resolution
    frames = list(mid_planes(volume, resolution))
    deep = frames[1].shape[0] >= LARGE
    if deep and not (candidates and image):  # the planes will stand in one row
        frames = list(mid_planes(volume, resolution, NARROW))
    labels, label_planes = _label_planes(layers, candidates, frames)
    greys = _grey_planes(layers, image, frames)
    panels = [
        _panel(frame, overlay(grey, plane), volume.bounds, resolution)
        for frame, grey, plane in zip(frames, greys, label_planes, strict=True)
    ]
    alone = None
    if deep and labels and image:
        alone = crop(panels[0], grey_to_rgb(greys[0]), frames[1].shape[0], f"{image.name} alone")
    grid = arrange(panels, alone, deep)
    pixel_nm = frames[0].pixel_nm
    pixels = draw_figure(
        grid,
        pixel_nm=pixel_nm if layers.known_resolution else None,
        voxel=resolution[2] / pixel_nm,
        legend=_legend(labels, image),
    )
    z, y, x = volume.bounds.start + volume.bounds.shape // 2
    return Overview(
        pixels,
        tuple(map(tuple, grid)),
        pixel_nm,
        (z, y, x),
        image.name if image else "",
        labels.name if labels else "",
    )


def arrange(panels: Sequence[Panel], alone: Panel | None, deep: bool) -> list[list[Panel]]:
    """The planes across z, y and x in rows, such that no quarter of the figure is empty.

    Parameters
    ----------
    panels : 3 Panel
        Across z, y and x.
    alone : Panel or None
        For the fourth quarter.
    deep : bool
        Whether the fourth quarter is large; if nothing fills it, the planes share one row.
    """
    across_z, across_y, across_x = panels
    if deep and alone is None:
        return [[across_z, across_x, across_y]]
    rows = [[across_z, across_x], [across_y, *([alone] if alone else [])]]
    wide = [[panel for panel in row if min(panel.pixels.shape[:2]) >= THIN] for row in rows]
    return [row for row in wide if row] or [[across_z]]


def crop(panel: Panel, pixels: np.ndarray, side: int, name: str) -> Panel:
    """The middle of a panel, at most `side` pixels high and wide, with other pixels."""
    axes, slices = [], []
    for axis, length in zip((panel.rows, panel.columns), panel.pixels.shape, strict=False):
        first = max(0, (length - side) // 2)
        slices.append(slice(first, first + min(side, length)))
        axes.append(axis._replace(start=axis.start + first / axis.scale))
    return Panel(pixels[tuple(slices)], f"{name}, {panel.title}", *axes)


def _panel(frame: Frame, pixels: np.ndarray, bounds: Box, resolution: Resolution) -> Panel:
    """A plane with its axes; z is horizontal in the plane across x, so that y stays vertical."""
    rows, columns = (
        Axis(AXES[axis], bounds.start[axis], resolution[axis] / frame.pixel_nm)
        for axis in frame.axes
    )
    if frame.axis == 2:
        pixels, rows, columns = pixels.transpose(1, 0, 2), columns, rows
    section = int(frame.at_nm // resolution[frame.axis])
    return Panel(np.ascontiguousarray(pixels), f"{AXES[frame.axis]} = {section:,}", rows, columns)


def _legend(labels: StoredLayer | None, image: StoredLayer | None) -> str:
    """The layers in words, with the unit of the axes."""
    shown = [f"colour: {labels.name}"] if labels else []
    shown += [f"grey: {image.name}"] if image else []
    return "; ".join([*shown, "axes in voxels"])


def _label_planes(
    layers: LayerSet, candidates: Sequence[StoredLayer], frames: Sequence[Frame]
) -> tuple[StoredLayer | None, list[np.ndarray]]:
    """The first segmentation that is not empty, and its planes."""
    for layer in candidates:
        planes = [sample(layer.scales, layers.resolution, frame) for frame in frames]
        if any(plane.any() for plane in planes):
            return layer, planes
    return None, [np.zeros(frame.shape, np.uint64) for frame in frames]


def _grey_planes(
    layers: LayerSet, image: StoredLayer | None, frames: Sequence[Frame]
) -> list[np.ndarray]:
    """The planes of an image (mean of its channels), from the 1st to the 99th percentile."""
    if image is None:
        return [np.full(frame.shape, BLANK, np.uint8) for frame in frames]
    planes = [sample(image.scales, layers.resolution, frame) for frame in frames]
    planes = [plane.astype(np.float32) for plane in planes]
    planes = [plane.mean(axis=0) if plane.ndim == 3 else plane for plane in planes]
    values = np.concatenate([plane.ravel() for plane in planes])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 1.0)
    return [stretch_contrast(plane, float(low), float(high)) for plane in planes]
