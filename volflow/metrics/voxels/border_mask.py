"""Where a truth can be trusted: away from the borders of its labels.

Annotators agree on which object a voxel belongs to, but not on the last voxels before a membrane;
a score that leaves these out compares objects and not brush strokes.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from volflow.core.geometry import Triple, zyx
from volflow.metrics.voxels.overlaps import unsigned

Spacing = tuple[float, float, float]


def reach(tolerance: float, spacing: Spacing = (1.0, 1.0, 1.0)) -> Triple:
    """Voxels along each axis that `inside` looks at: the halo that makes blocks exact.

    Parameters
    ----------
    tolerance : float
        Distance in the unit of `spacing`, at least 0.
    spacing : three floats, zyx
        Distance between the centres of neighbouring voxels, above 0.

    Raises
    ------
    ValueError
        If tolerance or spacing is no such number.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"a border's tolerance must be 0 or more and finite; got {tolerance}")
    if len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing must be three numbers above 0, zyx; got {tuple(spacing)}")
    return zyx([len(_squares(tolerance, step)) - 1 for step in spacing])


def inside(truth: np.ndarray, tolerance: float, spacing: Spacing = (1.0, 1.0, 1.0)) -> np.ndarray:
    """False where a voxel lies within `tolerance` of a voxel with another label.

    Distances are Euclidean, from centre to centre, so that a tolerance of 1 takes the voxels on
    both sides of a border and 0 takes none. With the tolerance in nanometres and the resolution
    as spacing, sections further apart than the tolerance do not see one another. Label 0 is a
    label like any other: what touches unlabelled space lies at a border, too. What is beyond the
    array is unknown and makes no border.

    The value of a voxel depends on those up to `reach` away and on no others: blocks read with
    that halo, cut off where the volume ends, give the bytes of the whole.

    Parameters
    ----------
    truth : integer or bool array, (Z, Y, X)
        Labels, none of them negative.
    tolerance : float
        In the unit of `spacing`; voxels if that is left out.
    spacing : three floats, zyx
        Distance between the centres of neighbouring voxels.

    Returns
    -------
    bool array, (Z, Y, X)

    Raises
    ------
    ValueError
        If the array is not three-dimensional or holds no labels, or tolerance or spacing is no
        such number.

    References
    ----------
    The CREMI challenge (cremi.org/metrics) leaves out the voxels near a border of the same
    section. It measures to the nearest voxel *at* a border where this measures to the nearest
    voxel *across* it, so its threshold of k pixels is about k + 1 here.
    """
    if truth.ndim != 3:
        raise ValueError(f"truth must have the three axes zyx; got shape {truth.shape}")
    labels = unsigned("truth", truth)
    if reach(tolerance, spacing) == (0, 0, 0):
        return np.ones(truth.shape, bool)
    in_z, in_y, in_x = (_squares(tolerance, step) for step in spacing)
    return _inside(labels, in_z, in_y, in_x, float(tolerance) ** 2)


def _squares(tolerance: float, step: float) -> np.ndarray:
    """Squared distances of 0, 1, 2, ... voxels, up to the square of the tolerance."""
    most = math.floor(tolerance / step) + 1  # one more than the quotient, which is rounded
    squares: np.ndarray = (np.arange(most + 1, dtype=np.float64) * step) ** 2
    return squares[squares <= tolerance * tolerance]


@numba.njit(cache=True, nogil=True)
def _along_x(labels: np.ndarray, squares: np.ndarray, far: float, nearest: np.ndarray) -> None:
    """Squared distance of each voxel of a row to the next one of another label; `far` if none."""
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


@numba.njit(cache=True, nogil=True)
def _lower(
    best: np.ndarray, labels: np.ndarray, theirs: np.ndarray, nearest: np.ndarray, square: float
) -> None:
    """What a row learns from another one, `square` away: its labels and what is nearest to it."""
    for x in range(len(best)):
        found = square if labels[x] != theirs[x] else square + nearest[x]
        best[x] = min(best[x], found)


@numba.njit(cache=True, nogil=True)
def _inside(
    labels: np.ndarray, in_z: np.ndarray, in_y: np.ndarray, in_x: np.ndarray, limit: float
) -> np.ndarray:
    """The mask, axis by axis: x in rows, y in planes, z in a ring of the planes that are needed.

    The nearest voxel of another label is either in a voxel's own row, or seen from that row's
    neighbour: directly if the neighbour has another label, else as what is nearest to it.
    """
    depth, height, width = labels.shape
    far = 4.0 * limit + 1.0  # further than any sum of three squares that counts
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
