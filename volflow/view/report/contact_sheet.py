"""A contact sheet: the same plane with several segmentations of it, in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import imagecodecs
import numpy as np

from volflow.view.layers import LayerSet, StoredLayer
from volflow.view.planes import mid_planes, sample
from volflow.view.report.run.figure import Axis, Panel, draw_figure
from volflow.view.report.run.overlay import overlay, stretch_contrast
from volflow.view.report.run.overview import BLANK

SIDE = 300  # pixels along the longest side of a plane


class Cell(NamedTuple):
    """A segmentation on the sheet, and its title."""

    layer: StoredLayer
    title: str


def contact_sheet(
    layers: LayerSet, image: StoredLayer | None, rows: Sequence[Sequence[Cell]]
) -> bytes:
    """The middle section of segmentations over an image, as a PNG file.

    Parameters
    ----------
    layers : LayerSet
        The set that the segmentations belong to.
    image : StoredLayer or None
        Of any set; drawn in grey below them.
    rows : rows of Cell
        All segmentations have the same bounds.

    Returns
    -------
    bytes
    """
    volume = rows[0][0].layer.scales[0]
    resolution = volume.resolution or layers.resolution
    frame = next(iter(mid_planes(volume, resolution, SIDE)))
    grey = np.full(frame.shape, BLANK, np.uint8)
    if image is not None:
        plane = sample(image.scales, resolution, frame).astype(np.float32)
        plane = plane.mean(axis=0) if plane.ndim == 3 else plane
        low, high = np.percentile(plane[np.isfinite(plane)], [1, 99])
        grey = stretch_contrast(plane, float(low), float(high))
    axes = [
        Axis("zyx"[axis], volume.bounds.start[axis], resolution[axis] / frame.pixel_nm)
        for axis in frame.axes
    ]
    grid = [
        [
            Panel(overlay(grey, sample(cell.layer.scales, resolution, frame)), cell.title, *axes)
            for cell in row
        ]
        for row in rows
    ]
    section = int(frame.at_nm // resolution[0])
    pixels = draw_figure(
        grid,
        pixel_nm=frame.pixel_nm if layers.known_resolution else None,
        voxel=resolution[2] / frame.pixel_nm,
        legend=f"z = {section:,}; threshold | min_size: segments, share of the largest",
    )
    return bytes(imagecodecs.png_encode(pixels, level=4))
