"""Mask of the voxels away from the borders of a ground truth, where its labels are reliable.

Annotators agree on the object that a voxel belongs to, except for the last voxels before a
membrane. A score without these compares objects and not brush strokes.
"""

from __future__ import annotations

import math

import numpy as np

from volflow.core.geometry import Triple, zyx
from volflow.kernels import kernel
from volflow.metrics.voxels.overlaps import as_labels

Spacing = tuple[float, float, float]


def border_halo(tolerance: float, spacing: Spacing = (1.0, 1.0, 1.0)) -> Triple:
    """The halo in voxels, z y x, with which `interior_mask` of a block equals that of the volume.

    Parameters
    ----------
    tolerance : float
        Distance in the unit of `spacing`, 0 or more.
    spacing : three floats, zyx
        Distance between the centres of neighbouring voxels, above 0.

    Raises
    ------
    ValueError
        If tolerance or spacing is out of range.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance: expected a finite number of 0 or more; got {tolerance}")
    if len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing: expected three numbers above 0, zyx; got {tuple(spacing)}")
    return zyx([len(_squares(tolerance, step)) - 1 for step in spacing])


def interior_mask(
    truth: np.ndarray, tolerance: float, spacing: Spacing = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Whether a voxel is farther than `tolerance` from every voxel with another label.

    Distances are Euclidean, from centre to centre: a tolerance of 1 excludes the voxels on both
    sides of a border, and 0 excludes none. With the tolerance in nanometres and the resolution as
    spacing, sections farther apart than the tolerance do not affect each other. Label 0 is a label
    like any other, so voxels next to unlabelled space are at a border, too. The edge of the array
    is no border.

    A voxel depends only on voxels within `border_halo`: blocks read with that halo, clipped to the
    volume, give the same bytes as the whole volume.

    Parameters
    ----------
    truth : integer or bool array, (Z, Y, X)
        Labels, none of them negative.
    tolerance : float
        In the unit of `spacing`; voxels by default.
    spacing : three floats, zyx
        Distance between the centres of neighbouring voxels.

    Returns
    -------
    bool array, (Z, Y, X)

    Raises
    ------
    ValueError
        If the array is not three-dimensional or not of integers, or tolerance or spacing is out of
        range.

    References
    ----------
    The CREMI challenge (cremi.org/metrics) excludes the voxels near a border in the same section.
    It measures the distance to the nearest voxel *at* a border, this function that to the nearest
    voxel *across* it, so its threshold of k pixels is about k + 1 here.
    """
    if truth.ndim != 3:
        raise ValueError(f"truth: expected the three axes zyx; got shape {truth.shape}")
    labels = as_labels("truth", truth)
    if border_halo(tolerance, spacing) == (0, 0, 0):
        return np.ones(truth.shape, bool)
    in_z, in_y, in_x = (_squares(tolerance, step) for step in spacing)
    return _inside(labels, in_z, in_y, in_x, float(tolerance) ** 2)


def _squares(tolerance: float, step: float) -> np.ndarray:
    """Squared distances of 0, 1, 2, ... voxels, up to the square of the tolerance."""
    most = math.floor(tolerance / step) + 1  # one more than the quotient, which is rounded
    squares: np.ndarray = (np.arange(most + 1, dtype=np.float64) * step) ** 2
    return squares[squares <= tolerance * tolerance]


@kernel
def _along_x(labels: np.ndarray, squares: np.ndarray, far: float, nearest: np.ndarray) -> None:
    """Squared distance of each voxel of a row to the nearest other label in it; `far` if none."""
    length, most = len(labels), len(squares) - 1
    start = 0
    while start < length:
        stop = start + 1
        while stop < length and labels[stop] == labels[start]:
            stop += 1
        for x in range(start, stop):
            nearest[x] = far
        if start > 0:
            for step in range(1, min(most, stop - start) + 1):
                nearest[start + step - 1] = squares[step]
        if stop < length:
            for step in range(1, min(most, stop - start) + 1):
                nearest[stop - step] = min(nearest[stop - step], squares[step])
        start = stop


@kernel
def _lower(
    best: np.ndarray, labels: np.ndarray, theirs: np.ndarray, nearest: np.ndarray, square: float
) -> None:
    """Lower the squared distances of a row by what another row, `square` away, contains."""
    for x in range(len(best)):
        distance = square if labels[x] != theirs[x] else square + nearest[x]
        best[x] = min(best[x], distance)


@kernel
def _inside(
    labels: np.ndarray, in_z: np.ndarray, in_y: np.ndarray, in_x: np.ndarray, limit: float
) -> np.ndarray:
    """The mask, axis by axis: x in rows, y in planes, z in a ring buffer of planes.

    The nearest voxel of another label is either in the same row or reached through another row: it
    is that row's voxel itself if the label differs, otherwise the one nearest to that voxel.
    """
    depth, height, width = labels.shape
    far = 4.0 * limit + 1.0  # more than any sum of three squares within the limit
    deep, high = len(in_z) - 1, len(in_y) - 1
    planes = 2 * deep + 1
    rows = np.empty((height, width))
    ring = np.empty((planes, height, width))
    best = np.empty(width)
    out = np.empty(labels.shape, np.bool_)
    for front in range(depth + deep):
        if front < depth:
            here = ring[front % planes]
            for y in range(height):
                _along_x(labels[front, y], in_x, far, rows[y])
            here[:] = rows
            for y in range(height):
                for other in range(max(0, y - high), min(height, y + high + 1)):
                    if other != y:
                        square = in_y[abs(other - y)]
                        _lower(here[y], labels[front, y], labels[front, other], rows[other], square)
        z = front - deep
        if z < 0:
            continue
        for y in range(height):
            best[:] = ring[z % planes, y]
            for other in range(max(0, z - deep), min(depth, z + deep + 1)):
                if other != z:
                    near = ring[other % planes, y]
                    _lower(best, labels[z, y], labels[other, y], near, in_z[abs(other - z)])
            for x in range(width):
                out[z, y, x] = best[x] > limit
    return out
