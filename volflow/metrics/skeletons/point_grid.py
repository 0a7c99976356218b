"""A grid of cubes over points, to search the neighbourhood of a place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.kernels import kernel


class PointGrid(NamedTuple):
    """Points sorted by the cube they are in.

    Attributes
    ----------
    points : float64 array, (M, 3)
        z, y, x in nanometres.
    number : int64 array, (M,)
        Index of each point among those given.
    key : int64 array, (M,)
        Row-major number of its cube, ascending: the cubes of a row along x are consecutive.
    origin : float64 array, (3,)
        Corner of the first cube.
    side : float
        Side of a cube in nanometres.
    counts : int64 array, (3,)
        Number of cubes along each axis.
    """

    points: np.ndarray
    number: np.ndarray
    key: np.ndarray
    origin: np.ndarray
    side: float
    counts: np.ndarray


def make_grid(points: np.ndarray, side: float) -> PointGrid:
    """Sort points into cubes of that side, or larger ones if there would be too many."""
    origin = points.min(axis=0)
    extent = points.max(axis=0) - origin
    side = max(side, float(extent.max()) / 2**19, 1e-6)  # keys stay below 2^60
    counts = (extent / side).astype(np.int64) + 1
    z, y, x = ((points - origin) / side).astype(np.int64).T
    key = (z * counts[1] + y) * counts[2] + x
    order = np.argsort(key, kind="stable")
    return PointGrid(points[order], order, key[order], origin, side, counts)


@kernel
def cube_range(grid: PointGrid, place: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """First and last cube along each axis within reach of a place; none if last < first."""
    low = np.zeros(3, np.int64)
    high = np.zeros(3, np.int64)
    for axis in range(3):
        start = np.floor((place[axis] - reach - grid.origin[axis]) / grid.side)
        stop = np.floor((place[axis] + reach - grid.origin[axis]) / grid.side)
        # clipped as floats: places far outside exceed the range of integers
        low[axis] = int(min(max(start, 0.0), float(grid.counts[axis])))
        high[axis] = int(min(max(stop, -1.0), grid.counts[axis] - 1.0))
    return low, high


@kernel
def points_of_row(grid: PointGrid, z: int, y: int, low: int, high: int) -> tuple[int, int]:
    """First and last index (half-open) of the points in the cubes low..high of a row."""
    row = (z * grid.counts[1] + y) * grid.counts[2]
    start = np.searchsorted(grid.key, row + low)
    return start, np.searchsorted(grid.key, row + high, side="right")


def check_points(points: np.ndarray, what: str) -> np.ndarray:
    """Points as a finite float64 array (M, 3); an empty one may have any shape."""
    places = np.asarray(points, np.float64)
    if places.size == 0:
        return np.zeros((0, 3))
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(f"{what}: expected points (M, 3), z, y, x in nm; got shape {places.shape}")
    wrong = ~np.isfinite(places).all(axis=1)
    if wrong.any():
        raise ValueError(f"{what}: {wrong.sum()} of {len(places)} points are not finite")
    return places
