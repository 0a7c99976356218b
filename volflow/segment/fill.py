"""Background near segments filled with the nearest segment."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Resolution, Triple, zyx
from volflow.kernels import kernel

PICOMETRES = 1000  # per nanometre: squares of whole numbers compare alike on any machine
FARTHEST_NM = 1e6  # squares fit in 64 bits
FARTHEST = 1 << 14  # voxels; offsets are stored in 16 bits
NONE = (1 << 15) - 1  # no labelled voxel within reach


def fill_halo(distance_nm: float, resolution: Resolution) -> Triple:
    """The halo in voxels, z y x, with which `filled` of a block equals that of the volume.

    Parameters
    ----------
    distance_nm : float
        In nanometres, 0 or more.
    resolution : (float, float, float)
        Voxel size z y x in nanometres.
    """
    distance, sides = _picometres(distance_nm, resolution)
    return zyx([distance // side for side in sides])


def filled(labels: np.ndarray, distance_nm: float, resolution: Resolution) -> np.ndarray:
    """Labels, and for background within a distance of one the label of the nearest voxel.

    Distances are Euclidean, from centre to centre. Of several voxels at the same distance the first
    counts: that of the smallest z, then y, then x. The result of a voxel depends only on voxels
    within `fill_halo`, so blocks read with that halo give the same bytes as the whole volume, and
    only on where there are labels, so it can be filled before or after labels are renamed.

    The nearest voxel is searched along x, then among the nearest along x of each row, then among
    those of each plane, which is exact for sums of squares.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        0 is background. Not changed.
    distance_nm : float
        In nanometres, 0 or more.
    resolution : (float, float, float)
        Voxel size z y x in nanometres; rounded to picometres.

    Returns
    -------
    uint64, (Z, Y, X)

    Raises
    ------
    ValueError
        If the distance is more than 2**14 voxels along an axis, or more than a millimetre.

    References
    ----------
    Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, Theory of Computing
    2012, for the search axis by axis; here within a window, and with a rule for ties.
    """
    distance, sides = _picometres(distance_nm, resolution)
    reach = [distance // side for side in sides]
    if max(reach) > FARTHEST:
        raise ValueError(f"expected a distance of at most {FARTHEST} voxels; got {max(reach)}")
    squares = np.array([side * side for side in sides], np.int64)
    labels = np.ascontiguousarray(labels)
    result: np.ndarray = _filled(labels, np.array(reach), squares, distance * distance)
    return result


def _picometres(distance_nm: float, resolution: Resolution) -> tuple[int, list[int]]:
    """The distance and the sides of a voxel, each at least 1, in whole picometres."""
    if not 0 <= distance_nm <= FARTHEST_NM:
        raise ValueError(f"expected a distance of 0 to {FARTHEST_NM:g} nm; got {distance_nm}")
    return round(distance_nm * PICOMETRES), [max(1, round(s * PICOMETRES)) for s in resolution]


@kernel
def _filled(labels: np.ndarray, reach: np.ndarray, squares: np.ndarray, limit: int) -> np.ndarray:
    depth, height, width = labels.shape
    result = labels.copy()
    along_x = np.full(labels.shape, NONE, np.int16)
    for z in range(depth):
        for y in range(height):
            _nearest_in_row(labels[z, y], reach[2], along_x[z, y])
    row = np.full(labels.shape, NONE, np.int16)  # of the nearest voxel in the plane, relative
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if along_x[z, y, x] == 0:
                    row[z, y, x] = 0
                    continue
                best = np.int64(limit + 1)
                for distance in range(reach[1] + 1):
                    if distance * distance * squares[1] > best:
                        break
                    for side in range(-1, 2, 2):
                        step = side * distance
                        if y + step < 0 or y + step >= height or (distance == 0 and side == 1):
                            continue
                        across = np.int64(along_x[z, y + step, x])
                        if across == NONE:
                            continue
                        square = distance * distance * squares[1] + across * across * squares[2]
                        if square < best or (square == best and step < row[z, y, x] != NONE):
                            best, row[z, y, x] = square, step
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if labels[z, y, x] != 0:
                    continue
                best, plane = np.int64(limit + 1), NONE
                for distance in range(reach[0] + 1):
                    if distance * distance * squares[0] > best:
                        break
                    for side in range(-1, 2, 2):
                        k = z + side * distance
                        if k < 0 or k >= depth or (distance == 0 and side == 1):
                            continue
                        down = np.int64(row[k, y, x])
                        if down == NONE:
                            continue
                        across = np.int64(along_x[k, y + down, x])
                        square = (
                            distance * distance * squares[0]
                            + down * down * squares[1]
                            + across * across * squares[2]
                        )
                        if square < best or (square == best and k - z < plane):
                            best, plane = square, k - z
                if best <= limit:
                    k = z + plane
                    j = y + row[k, y, x]
                    result[z, y, x] = labels[k, j, x + along_x[k, j, x]]
    return result


@kernel
def _nearest_in_row(labels: np.ndarray, reach: int, nearest: np.ndarray) -> None:
    """Write the offset to the nearest labelled voxel of a row, before or after each voxel."""
    width = len(labels)
    last = -NONE
    for x in range(width):
        if labels[x] != 0:
            last = x
        if x - last <= reach:
            nearest[x] = last - x
    last = 2 * NONE + width
    for x in range(width - 1, -1, -1):
        if labels[x] != 0:
            last = x
        if last - x <= reach and (nearest[x] == NONE or last - x < -nearest[x]):
            nearest[x] = last - x
