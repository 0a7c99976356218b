"""The initial view of a scene: position, segments in full colour, contrast."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box
from volflow.view.layers import LayerSet, StoredLayer
from volflow.view.neuroglancer.state import Viewpoint
from volflow.view.planes import affordable, halved, mid_planes, sample

VOXELS = 8 << 20  # labels that are read: the coarsest scale, or the middle of it
SEGMENTS = 60


def initial_view(layers: LayerSet, labels: StoredLayer | None) -> tuple[Viewpoint, tuple[int, ...]]:
    """The voxel of the largest segment that is nearest to the middle, and the largest segments.

    Parameters
    ----------
    layers : LayerSet
        With at least one layer.
    labels : StoredLayer or None
        The segmentation in view; without one, or if it is empty, the view is centred on the
        middle of the first layer.

    Returns
    -------
    Viewpoint, tuple of int
        Where to look, and at most `SEGMENTS` ids, the largest segment's first.
    """
    scales = (labels or layers.layers[0]).scales
    bounds, resolution = scales[0].bounds, scales[0].resolution or layers.resolution
    extent = [n * r for n, r in zip(bounds.shape, resolution, strict=True)]
    middle = [a * r + e / 2 for a, r, e in zip(bounds.start, resolution, extent, strict=True)]
    ids: tuple[int, ...] = ()
    if labels is not None:
        coarse = scales[-1]
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
    return Viewpoint((z, y, x), (depth, height, width), resolution), ids


def largest(labels: np.ndarray, number: int = SEGMENTS) -> tuple[int, ...]:
    """The `number` ids with the most voxels, the largest first; never 0.

    Of equally large ones the smaller id comes first.
    """
    ids, counts = np.unique(labels, return_counts=True)
    counts[ids == 0] = 0
    order = np.lexsort((ids, -counts))[:number]
    return tuple(int(ids[n]) for n in order if counts[n])


def contrast(layers: LayerSet, image: StoredLayer) -> tuple[float, float]:
    """The 1st and 99th percentile of the values in the middle section of an image."""
    scales = image.scales
    frame = next(mid_planes(scales[0], scales[0].resolution or layers.resolution))
    values = sample(scales, layers.resolution, frame).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(values, [1, 99]))
    return (low, high) if high > low else (low, low + 1)


def _middle(bounds: Box) -> Box:
    """The middle of a box, of at most `VOXELS` voxels."""
    while bounds.size > VOXELS:
        bounds = halved(bounds, int(np.argmax(bounds.shape)))
    return bounds


def _nearest(inside: np.ndarray, target: np.ndarray) -> list[int]:
    """The voxel of a region that is nearest to a point."""
    voxels = np.argwhere(inside)
    distance = np.square(voxels + 0.5 - target).sum(axis=1)
    return [int(n) for n in voxels[int(np.argmin(distance))]]
