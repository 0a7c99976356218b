"""Elastic deformation of crops, as in sections that were cut, dried and aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import interpolate, ndimage

from volflow.core.geometry import Triple
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample

FARTHEST = 2.0  # maximum displacement of a control point, standard deviations
STIFF = 20  # minimum distance of control points, standard deviations: less could fold the crop


def deformed(
    sample: Sample, shift: Sequence[float], spacing: Sequence[float], rng: np.random.Generator
) -> Sample:
    """The crop with its voxels sampled at positions displaced by a smooth random field.

    Image, truth and marks are sampled at the same positions, the image with linear interpolation,
    the others from the nearest voxel. Positions outside the crop repeat the image's edge; truth and
    marks are unknown there.

    Parameters
    ----------
    sample : Sample
    shift : three float
        Standard deviation of the displacement of control points, voxels z y x.
    spacing : three float
        Distance between control points, voxels z y x.
    rng : Generator

    References
    ----------
    SegNeuron (MICCAI 2024) trains with control points 4, 40 and 40 voxels apart and shifts of 0, 2
    and 2. Here shifts beyond twice that are clipped, so that the crop cannot fold.
    """
    shape = sample.image.shape
    positions = sampling_positions(shape, shift, spacing, rng)
    image = ndimage.map_coordinates(sample.image, positions, order=1, mode="nearest")
    nearest = np.rint(positions).astype(np.int64)
    sides = np.reshape(shape, (3, 1, 1, 1))
    inside = ((nearest >= 0) & (nearest < sides)).all(axis=0)
    z, y, x = nearest.clip(0, sides - 1)
    marks = np.where(inside, sample.marks[:, z, y, x], np.uint8(UNKNOWN_MARK))
    truth = _displaced_truth(sample, nearest)
    own = tuple(slice(a, a + n) for a, n in zip(sample.margin, shape, strict=True))
    truth[own][~inside] = UNKNOWN
    return replace(sample, image=image, truth=truth, marks=marks)


def sampling_positions(
    shape: Triple, shift: Sequence[float], spacing: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """The position that each voxel is sampled at: a cubic spline through displaced control points.

    Returns
    -------
    float array, (3, *shape), voxels z y x
    """
    along = [_spline(side, step) for side, step in zip(shape, spacing, strict=True)]
    moved = rng.standard_normal((3, *(matrix.shape[1] for matrix in along)))
    moved = moved.clip(-FARTHEST, FARTHEST) * np.reshape(shift, (3, 1, 1, 1))
    for axis, matrix in enumerate(along):
        moved = np.moveaxis(np.tensordot(matrix, moved, (1, axis + 1)), 0, axis + 1)
    positions: np.ndarray = moved + np.indices(shape)
    return positions


def _spline(side: int, step: float) -> np.ndarray:
    """Weights of control points at the voxels of an axis, (side, points); point 0 is at 0."""
    count = int(np.ceil((side - 1) / step)) + 1
    if count == 1:
        return np.ones((side, 1))
    # Natural ends: with other conditions a spline through few points overshoots.
    spline = interpolate.CubicSpline(np.arange(count) * step, np.eye(count), bc_type="natural")
    weights: np.ndarray = spline(np.arange(side))
    return weights


def _displaced_truth(sample: Sample, nearest: np.ndarray) -> np.ndarray:
    """The truth of the crop and its margin, which moves with the nearest voxel of the crop."""
    moved = nearest - np.indices(sample.image.shape)
    moved = np.pad(moved, [(0, 0), *((a, a) for a in sample.margin)], mode="edge")
    positions = moved + np.indices(sample.truth.shape)
    sides = np.reshape(sample.truth.shape, (3, 1, 1, 1))
    inside = ((positions >= 0) & (positions < sides)).all(axis=0)
    z, y, x = positions.clip(0, sides - 1)
    return np.where(inside, sample.truth[z, y, x], np.int32(UNKNOWN))
