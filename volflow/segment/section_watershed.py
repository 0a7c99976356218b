"""Fragments of single sections: a watershed from the middles of what boundaries enclose.

For volumes whose sections are much thicker than their pixels, where a fragment that leaves its
section would be a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.segment.multicut import library

NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class Flooding:
    """How a section is flooded.

    level : float, 0 to 1
        A pixel whose boundary is above this keeps seeds away.
    sigma : float
        Pixels over which distances and boundaries are smoothed.
    share : float, 0 to 1
        Of the boundary in the height that is flooded; the rest is nearness to boundaries.
    min_size : int
        Pixels; a smaller fragment is given to its neighbours.
    """

    level: float = 0.25
    sigma: float = 2.0
    share: float = 0.9
    min_size: int = 100


def boundaries(affinity: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """`255 - affinity` of pairs that exist, 0 of others.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    mask : bool, (Z, Y, X), or None
        Pairs of a voxel outside of it do not exist, nor do pairs that leave the volume.

    Returns
    -------
    uint8, (3, Z, Y, X)
    """
    if affinity.dtype != np.uint8 or affinity.ndim != 4 or len(affinity) != 3:
        raise ValueError(
            f"affinities must be uint8 (3, Z, Y, X); got {affinity.dtype} of {affinity.shape}"
        )
    found: np.ndarray = np.subtract(255, affinity, dtype=np.uint8)
    for axis in range(3):
        channel = np.moveaxis(found[axis], axis, 0)
        channel[:1] = 0
        if mask is not None:
            solid = np.moveaxis(mask, axis, 0)
            channel[1:] *= solid[1:] & solid[:-1]
    return found


def stack_fragments(
    boundary: np.ndarray, mask: np.ndarray | None = None, how: Flooding | None = None
) -> np.ndarray:
    """The fragments of every section by itself.

    Parameters
    ----------
    boundary : uint8, (3, Z, Y, X)
        From `boundaries`; of it those along y and x.
    mask : bool, (Z, Y, X), or None
        Outside, there is boundary and no fragment.
    how : Flooding

    Returns
    -------
    uint64, (Z, Y, X)
        1, 2, ... section by section, each number in use; 0 outside the mask and nowhere else.

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
        found = np.where(inside, section_fragments(height, how or Flooding()), 0)
        names, numbers = np.unique(found, return_inverse=True)
        section[...] = numbers.reshape(found.shape)
        if not len(names) or names[0] != 0:
            section += np.uint64(1)
        section[inside] += np.uint64(count)
        count = max(count, int(section.max(initial=0)))
    return labels


def section_fragments(height: np.ndarray, how: Flooding) -> np.ndarray:
    """The fragments of one section.

    Parameters
    ----------
    height : float64, (Y, X), 0 to 1
        How surely there is a boundary.
    how : Flooding

    Returns
    -------
    uint32, (Y, X)
        No pixel is left out.

    References
    ----------
    Beier et al., Multicut brings automated neurite segmentation closer to human performance, Nature
    Methods 2017, in the form that python-elf has and SegNeuron calls.
    """
    if not height.size:
        return np.zeros(height.shape, np.uint32)
    flood = library("segmentation").watershed
    distance = smooth_distance(height, how)
    smooth = ndimage.gaussian_filter(height, how.sigma)
    near = 1 - (distance - distance.min()) / max(np.ptp(distance), np.finfo(float).tiny)
    weights = how.share * smooth + (1 - how.share) * near
    labels = flood(weights, seeds(distance))
    sizes = np.bincount(labels.ravel())
    kept = sizes >= min(how.min_size, sizes[1:].max())
    if kept[1:].all():
        return np.asarray(labels)
    return np.asarray(flood(weights, labels * kept[labels]))


def smooth_distance(height: np.ndarray, how: Flooding) -> np.ndarray:
    """Pixels to the nearest boundary, smoothed; 0 everywhere in a section without boundaries."""
    free = height <= how.level
    if free.all():
        return np.zeros(height.shape)
    return np.asarray(ndimage.gaussian_filter(ndimage.distance_transform_edt(free), how.sigma))


def seeds(distance: np.ndarray) -> np.ndarray:
    """The local maxima of a map, numbered; pixels of one plateau are one maximum.

    Parameters
    ----------
    distance : float64, (Y, X)

    Returns
    -------
    uint32, (Y, X)
        0 where there is a larger value among the eight neighbours of the plateau.
    """
    top = ndimage.maximum_filter(distance, size=3, mode="nearest") == distance
    plateaus, count = ndimage.label(top, NEIGHBOURS)
    # a plateau goes on into a pixel that sees something higher: it is a slope's foot
    rest = np.where(top, -np.inf, distance)
    foot = top & (ndimage.maximum_filter(rest, size=3, mode="nearest") == distance)
    real = np.ones(count + 1, bool)
    real[plateaus[foot]] = False
    real[0] = False
    return np.asarray((np.cumsum(real) * real)[plateaus], np.uint32)
