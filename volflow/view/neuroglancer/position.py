"""Where in a run it is worth looking, and which segments to show in full colour."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.view.neuroglancer.layers import RunLayer, RunLayers
from volflow.view.neuroglancer.state import Place
from volflow.view.report.overview import mid_planes
from volflow.view.report.planes import affordable, sample

VOXELS = 8 << 20  # labels that are looked at: the coarsest scale, or its middle
SEGMENTS = 60


def useful_place(run: RunLayers, labels: RunLayer | None) -> tuple[Place, tuple[int, ...]]:
    """The voxel of the largest segment that is nearest to the middle, and the largest segments.

    Parameters
    ----------
    run : RunLayers
        With at least one layer.
    labels : RunLayer or None
        The segmentation that is looked at; without one, or where it is empty, the place is the
        middle of the first layer.

    Returns
    -------
    Place, tuple of int
        Where to look, and at most `SEGMENTS` ids, the largest segment's first.
    """
    shown = (labels or run.layers[0]).scales
    bounds, resolution = shown[0].bounds, shown[0].resolution or run.resolution
    extent = [n * r for n, r in zip(bounds.shape, resolution, strict=True)]
    middle = [a * r + e / 2 for a, r, e in zip(bounds.start, resolution, extent, strict=True)]
    ids: tuple[int, ...] = ()
    if labels is not None:
        coarse = shown[-1]
        sides = coarse.resolution or resolution
        box = affordable(coarse, _middle(coarse.bounds))
        voxels = coarse.read(box)
        ids = largest(voxels)
        if ids:
            target = [m / s - a for m, s, a in zip(middle, sides, box.start, strict=True)]
            nearest = _nearest(voxels == ids[0], np.array(target))
            middle = [(a + n + 0.5) * s for a, n, s in zip(box.start, nearest, sides, strict=True)]
    z, y, x = middle
    depth, height, width = extent
    return Place((z, y, x), (depth, height, width), resolution), ids


def largest(labels: np.ndarray, number: int = SEGMENTS) -> tuple[int, ...]:
    """The ids of most voxels, first the largest; of equal ones the smaller id first; never 0."""
    ids, counts = np.unique(labels, return_counts=True)
    counts[ids == 0] = 0
    order = np.lexsort((ids, -counts))[:number]
    return tuple(int(ids[n]) for n in order if counts[n])


def contrast(run: RunLayers, image: RunLayer) -> tuple[float, float]:
    """The values of an image between which 98 % of those in its middle section lie."""
    scales = image.scales
    frame = next(mid_planes(scales[0], scales[0].resolution or run.resolution))
    values = sample(scales, run.resolution, frame).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return (0.0, 1.0)
    low, high = (float(each) for each in np.percentile(values, [1, 99]))
    return (low, high) if high > low else (low, low + 1)


def _middle(bounds: Box) -> Box:
    """The middle of a box, of at most `VOXELS` voxels."""
    start, stop = list(bounds.start), list(bounds.stop)
    while Box(zyx(start), zyx(stop)).size > VOXELS:
        axis = int(np.argmax([b - a for a, b in zip(start, stop, strict=True)]))
        length = stop[axis] - start[axis]
        start[axis] += length // 4
        stop[axis] = start[axis] + length // 2
    return Box(zyx(start), zyx(stop))


def _nearest(inside: np.ndarray, target: np.ndarray) -> list[int]:
    """The voxel of a region that is nearest to a point."""
    places = np.argwhere(inside)
    distance = np.square(places + 0.5 - target).sum(axis=1)
    return [int(n) for n in places[int(np.argmin(distance))]]
