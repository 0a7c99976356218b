"""Points in cubes, so that those near a place are found without looking at all of them."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np


class Cells(NamedTuple):
    """Points sorted by the cube they lie in.

    Attributes
    ----------
    points : float64 array, (M, 3)
        z, y, x in nanometres.
    number : int64 array, (M,)
        Index of each point among those given.
    key : int64 array, (M,)
        Row-major number of its cube, ascending: cubes of one row along x follow one another.
    origin : float64 array, (3,)
        Corner of the first cube.
    side : float
        Of a cube, in nanometres.
    counts : int64 array, (3,)
        Cubes along each axis.
    """

    points: np.ndarray
    number: np.ndarray
    key: np.ndarray
    origin: np.ndarray
    side: float
    counts: np.ndarray


def in_cells(points: np.ndarray, side: float) -> Cells:
    """The points by cubes of that side, or larger ones where those would be too many to number."""
    origin = points.min(axis=0)
    extent = points.max(axis=0) - origin
    side = max(side, float(extent.max()) / 2**19, 1e-6)  # keys stay below 2^60
    counts = (extent / side).astype(np.int64) + 1
    z, y, x = ((points - origin) / side).astype(np.int64).T
    key = (z * counts[1] + y) * counts[2] + x
    order = np.argsort(key, kind="stable")
    return Cells(points[order], order, key[order], origin, side, counts)


@numba.njit(cache=True, nogil=True)
def touched(cells: Cells, place: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last cube along each axis within reach of a place; none where last < first."""
    low = np.zeros(3, np.int64)
    high = np.zeros(3, np.int64)
    for axis in range(3):
        start = np.floor((place[axis] - reach - cells.origin[axis]) / cells.side)
        stop = np.floor((place[axis] + reach - cells.origin[axis]) / cells.side)
        # clipped while it is a float: places far outside do not fit into an integer
        low[axis] = int(min(max(start, 0.0), float(cells.counts[axis])))
        high[axis] = int(min(max(stop, -1.0), cells.counts[axis] - 1.0))
    return low, high


@numba.njit(cache=True, nogil=True)
def row_of(cells: Cells, z: int, y: int, low: int, high: int) -> tuple[int, int]:
    """Where the points of the cubes low..high of one row begin and end."""
    row = (z * cells.counts[1] + y) * cells.counts[2]
    start = np.searchsorted(cells.key, row + low)
    return start, np.searchsorted(cells.key, row + high, side="right")


def checked_points(points: np.ndarray, what: str) -> np.ndarray:
    """The points as float64 (M, 3)."""
    places = np.asarray(points, np.float64)
    if places.size == 0:
        return np.zeros((0, 3))
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(
            f"points of {what} must be an array (M, 3) of z, y, x in nm; got {places.shape}"
        )
    wrong = ~np.isfinite(places).all(axis=1)
    if wrong.any():
        raise ValueError(f"{wrong.sum()} of {len(places)} points of {what} are not finite")
    return places
