"""Fragments of single sections: a watershed seeded at the maxima of the boundary distance.

For volumes whose sections are much thicker than their pixels are wide, where fragments that span
sections would be unreliable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.segment.multicut import library

NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class WatershedOptions:
    """Parameters of the watershed of a section.

    level : float, 0 to 1
        Pixels with a boundary probability above this count as boundary in the distance transform.
    sigma : float
        Standard deviation, in pixels, of the Gaussian that smooths distances and boundaries.
    share : float, 0 to 1
        Weight of the smoothed boundary in the flooded height map; the rest is proximity to
        boundaries.
    min_size : int
        In pixels; the pixels of smaller fragments are assigned to neighbouring fragments.
    """

    level: float = 0.25
    sigma: float = 2.0
    share: float = 0.9
    min_size: int = 100


def boundaries(affinity: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Boundaries, `255 - affinity`, of pairs of voxels that exist; 0 for other pairs.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    mask : bool, (Z, Y, X), or None
        Pairs with a voxel outside the mask do not exist, nor do pairs that leave the volume.

    Returns
    -------
    uint8, (3, Z, Y, X)
    """
    if affinity.dtype != np.uint8 or affinity.ndim != 4 or len(affinity) != 3:
        raise ValueError(
            f"expected uint8 affinities (3, Z, Y, X); got {affinity.dtype} of {affinity.shape}"
        )
    boundary: np.ndarray = np.subtract(255, affinity, dtype=np.uint8)
    for axis in range(3):
        channel = np.moveaxis(boundary[axis], axis, 0)
        channel[:1] = 0
        if mask is not None:
            solid = np.moveaxis(mask, axis, 0)
            channel[1:] *= solid[1:] & solid[:-1]
    return boundary


def stack_fragments(
    boundary: np.ndarray, mask: np.ndarray | None = None, options: WatershedOptions | None = None
) -> np.ndarray:
    """Fragments of a stack, computed section by section.

    Parameters
    ----------
    boundary : uint8, (3, Z, Y, X)
        From `boundaries`; only the channels along y and x are used.
    mask : bool, (Z, Y, X), or None
        Pixels outside the mask count as boundary and belong to no fragment.
    options : WatershedOptions, optional

    Returns
    -------
    uint64, (Z, Y, X)
        Consecutive labels from 1, section by section; 0 outside the mask and nowhere else.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    """
    labels = np.zeros(boundary.shape[1:], np.uint64)
    count = 0
    for z, section in enumerate(labels):
        height = np.maximum(boundary[1, z], boundary[2, z]) / np.float64(255)
        inside = np.ones(height.shape, bool) if mask is None else mask[z]
        height[~inside] = 1
        flooded = np.where(inside, section_fragments(height, options or WatershedOptions()), 0)
        names, numbers = np.unique(flooded, return_inverse=True)
        section[...] = numbers.reshape(flooded.shape)
        if not len(names) or names[0] != 0:
            section += np.uint64(1)
        section[inside] += np.uint64(count)
        count = max(count, int(section.max(initial=0)))
    return labels


def section_fragments(height: np.ndarray, options: WatershedOptions) -> np.ndarray:
    """Fragments of one section.

    Parameters
    ----------
    height : float64, (Y, X), 0 to 1
        Probability of a boundary.
    options : WatershedOptions

    Returns
    -------
    uint32, (Y, X)
        Labels from 1; every pixel has one.

    References
    ----------
    Beier et al., Multicut brings automated neurite segmentation closer to human performance, Nature
    Methods 2017, in the variant of python-elf that SegNeuron uses.
    """
    if not height.size:
        return np.zeros(height.shape, np.uint32)
    flood = library("segmentation").watershed
    distance = smooth_distance(height, options)
    smooth = ndimage.gaussian_filter(height, options.sigma)
    near = 1 - (distance - distance.min()) / max(np.ptp(distance), np.finfo(float).tiny)
    weights = options.share * smooth + (1 - options.share) * near
    labels = flood(weights, seeds(distance))
    sizes = np.bincount(labels.ravel())
    large = sizes >= min(options.min_size, sizes[1:].max())
    if large[1:].all():
        return np.asarray(labels)
    return np.asarray(flood(weights, labels * large[labels]))


def smooth_distance(height: np.ndarray, options: WatershedOptions) -> np.ndarray:
    """Smoothed distance to the nearest boundary in pixels; all 0 if there are no boundaries."""
    free = height <= options.level
    if free.all():
        return np.zeros(height.shape)
    return np.asarray(ndimage.gaussian_filter(ndimage.distance_transform_edt(free), options.sigma))


def seeds(distance: np.ndarray) -> np.ndarray:
    """Local maxima of a map, numbered; the pixels of a plateau are one maximum.

    Parameters
    ----------
    distance : float64, (Y, X)

    Returns
    -------
    uint32, (Y, X)
        Numbers from 1; 0 where a pixel, or the plateau it belongs to, has a larger neighbour (of
        eight).
    """
    top = ndimage.maximum_filter(distance, size=3, mode="nearest") == distance
    plateaus, count = ndimage.label(top, NEIGHBOURS)
    # A pixel of the plateau has a larger neighbour: the plateau is the foot of a slope.
    rest = np.where(top, -np.inf, distance)
    foot = top & (ndimage.maximum_filter(rest, size=3, mode="nearest") == distance)
    real = np.ones(count + 1, bool)
    real[plateaus[foot]] = False
    real[0] = False
    return np.asarray((np.cumsum(real) * real)[plateaus], np.uint32)
