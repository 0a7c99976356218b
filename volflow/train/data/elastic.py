"""Crops bent a little, as sections are when they are cut, dried and aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import interpolate, ndimage

from volflow.core.geometry import Triple
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample

FARTHEST = 2.0  # standard deviations that a control point is moved by, at most
STIFF = 20  # of these a control point lies apart from the next at least: less could fold the crop


def bent(
    sample: Sample, shift: Sequence[float], spacing: Sequence[float], rng: np.random.Generator
) -> Sample:
    """The crop with its voxels taken from places that a smooth field of shifts tells.

    Image, truth and marks are taken from the same places, the image linearly between voxels, the
    others from the nearest one. Where such a voxel lies beyond the crop the image repeats its
    edge, and nothing is known.

    Parameters
    ----------
    sample : Sample
    shift : three float
        Standard deviation, in voxels z y x, of how far a control point is moved.
    spacing : three float
        Voxels from one control point to the next, z y x.
    rng : Generator

    References
    ----------
    SegNeuron (MICCAI 2024) trains with control points 4, 40 and 40 voxels apart and shifts of 0, 2
    and 2. Here shifts beyond twice that are cut off, so that nothing is folded over.
    """
    shape = sample.image.shape
    near = places(shape, shift, spacing, rng)
    image = ndimage.map_coordinates(sample.image, near, order=1, mode="nearest")
    nearest = np.rint(near).astype(np.int64)
    sides = np.reshape(shape, (3, 1, 1, 1))
    there = ((nearest >= 0) & (nearest < sides)).all(axis=0)
    z, y, x = nearest.clip(0, sides - 1)
    marks = np.where(there, sample.marks[:, z, y, x], np.uint8(UNKNOWN_MARK))
    truth = _pulled(sample, nearest)
    own = tuple(slice(a, a + n) for a, n in zip(sample.around, shape, strict=True))
    truth[own][~there] = UNKNOWN
    return replace(sample, image=image, truth=truth, marks=marks)


def places(
    shape: Triple, shift: Sequence[float], spacing: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Where each voxel is taken from: a cubic spline through control points moved at random.

    Returns
    -------
    float array, (3, *shape), voxels z y x
    """
    along = [_spline(side, step) for side, step in zip(shape, spacing, strict=True)]
    moved = rng.standard_normal((3, *(matrix.shape[1] for matrix in along)))
    moved = moved.clip(-FARTHEST, FARTHEST) * np.reshape(shift, (3, 1, 1, 1))
    for axis, matrix in enumerate(along):
        moved = np.moveaxis(np.tensordot(matrix, moved, (1, axis + 1)), 0, axis + 1)
    found: np.ndarray = moved + np.indices(shape)
    return found


def _spline(side: int, step: float) -> np.ndarray:
    """Weights of control points at the voxels of an axis, (side, points); the first is at 0."""
    count = int(np.ceil((side - 1) / step)) + 1
    if count == 1:
        return np.ones((side, 1))
    # Natural ends: with others a spline through few points swings far beyond them.
    spline = interpolate.CubicSpline(np.arange(count) * step, np.eye(count), bc_type="natural")
    weights: np.ndarray = spline(np.arange(side))
    return weights


def _pulled(sample: Sample, nearest: np.ndarray) -> np.ndarray:
    """The truth in and around the crop; around it, it moves as the nearest voxel of the crop."""
    moved = nearest - np.indices(sample.image.shape)
    moved = np.pad(moved, [(0, 0), *((a, a) for a in sample.around)], mode="edge")
    where = moved + np.indices(sample.truth.shape)
    sides = np.reshape(sample.truth.shape, (3, 1, 1, 1))
    there = ((where >= 0) & (where < sides)).all(axis=0)
    z, y, x = where.clip(0, sides - 1)
    return np.where(there, sample.truth[z, y, x], np.int32(UNKNOWN))
