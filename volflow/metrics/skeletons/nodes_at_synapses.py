"""The nodes of skeletons that are at a synapse: those whose ball touches the disk of a cleft.

 ( v )        a disk is fitted to the points of each cleft; the ball around a node may be off
-------       its plane by the gap between cleft and neurite
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from volflow.kernels import kernel
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.point_grid import (
    PointGrid,
    check_points,
    cube_range,
    make_grid,
    points_of_row,
)

Fit = Literal["geometric", "literal"]

GAP_NM = 60.0  # from the middle of a cleft across the membrane into the neurite
FLAT = 1e-9  # share of the largest extent below which points are collinear


class CleftDisks(NamedTuple):
    """A disk for each cleft.

    Attributes
    ----------
    centre : float64 array, (K, 3)
        Mean of the cleft's points, in nanometres.
    radius : float64 array, (K,)
        Distance of the farthest point from the centre.
    normal : float64 array, (K, 3)
        Unit vector along which the points vary least; zeros for collinear points, which have no
        plane.
    """

    centre: np.ndarray
    radius: np.ndarray
    normal: np.ndarray


def fit_disks(points: np.ndarray, cleft: np.ndarray) -> CleftDisks:
    """Fit a disk to the points of each cleft, in the order of `np.unique(cleft)`.

    Parameters
    ----------
    points : float array, (M, 3)
        z, y, x in nanometres.
    cleft : integer array, (M,)
        The cleft that a point belongs to.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, the text before eq. (12).
    """
    points, start = _by_cleft(points, cleft)
    size = np.diff(start)
    which = np.repeat(np.arange(len(size)), size)
    centre = np.add.reduceat(points, start[:-1]) / size[:, None]
    gone = points - centre[which]
    spread = np.add.reduceat(gone[:, :, None] * gone[:, None, :], start[:-1])
    extent, axes = np.linalg.eigh(spread)  # extents ascend
    planar = extent[:, 1] > FLAT * extent[:, 2]
    radius = np.sqrt(np.maximum.reduceat((gone**2).sum(axis=1), start[:-1]))
    return CleftDisks(centre, radius, np.where(planar[:, None], axes[:, :, 0], 0.0))


def synapse_nodes(
    forest: SkeletonForest,
    points: np.ndarray,
    cleft: np.ndarray,
    *,
    fit: Fit = "geometric",
    gap_nm: float = GAP_NM,
) -> np.ndarray:
    """Whether the ball around each node reaches the disk of a cleft.

    Parameters
    ----------
    forest : SkeletonForest
        With radii.
    points : float array, (M, 3)
        Points of clefts, z, y, x in nanometres.
    cleft : integer array, (M,)
        The cleft that a point belongs to.
    fit : {"geometric", "literal"}
        "geometric": the node is within its own radius plus `gap_nm` of the disk's plane, and its
        projection onto the plane is within its radius of the disk. "literal": the node is within
        the disk's radius plus its own of the plane, and its projection is within its radius of a
        point of the cleft, as printed in eq. (12).
    gap_nm : float
        Distance from the cleft into the neurite; not used by "literal".

    Returns
    -------
    bool array, (N,)

    Raises
    ------
    ValueError
        If lengths differ, points are not finite, or fit or gap are out of range.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (12). Its two tolerances are the reverse of those in
    eq. (11), so they are swapped by default. A cleft of collinear points, which has no plane, is
    treated as a ball.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit: expected one of {', '.join(get_args(Fit))}; got {fit!r}")
    if not (np.isfinite(gap_nm) and gap_nm >= 0):
        raise ValueError(f"gap_nm: expected 0 nm or more; got {gap_nm}")
    points, start = _by_cleft(points, cleft)
    at_synapse = np.zeros(len(forest), bool)
    if not len(points) or not len(forest):
        return at_synapse
    disk = fit_disks(points, np.repeat(np.arange(len(start) - 1), np.diff(start)))
    widest = float(disk.radius.max())
    grid = make_grid(disk.centre, widest + float(np.median(forest.radius)) + gap_nm)
    literal = fit == "literal"
    place, radius = forest.position, forest.radius
    _mark_nodes(place, radius, disk, widest, points, start, literal, gap_nm, grid, at_synapse)
    return at_synapse


def _by_cleft(points: np.ndarray, cleft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points sorted by cleft and position, and the first row of each cleft, (K + 1,)."""
    places = check_points(points, "clefts")
    ids = np.asarray(cleft)
    if ids.shape != (len(places),):
        raise ValueError(
            f"clefts: expected {len(places)} ids, one per point; got shape {ids.shape}"
        )
    order = np.lexsort((*places.T[::-1], ids))
    start = np.unique(ids[order], return_index=True)[1]
    return places[order], np.append(start, len(ids))


@kernel
def _mark_nodes(
    position: np.ndarray,
    radius: np.ndarray,
    disk: CleftDisks,
    widest: float,
    cleft: np.ndarray,
    start: np.ndarray,
    literal: bool,
    gap: float,
    grid: PointGrid,
    marked: np.ndarray,
) -> None:
    """Set `marked` at the nodes whose ball reaches the disk of a cleft; `grid` has the centres."""
    for v in range(len(position)):
        r, place = radius[v], position[v]
        # both tolerances together limit the distance to the centre
        low, high = cube_range(grid, place, 1.5 * (widest + r + gap))
        for z in range(low[0], high[0] + 1):
            for y in range(low[1], high[1] + 1):
                if marked[v]:
                    break
                first, stop = points_of_row(grid, z, y, low[2], high[2])
                for at in range(first, stop):
                    if marked[v]:
                        break
                    number = grid.number[at]
                    wide, normal = disk.radius[number], disk.normal[number]
                    dz = place[0] - grid.points[at, 0]
                    dy = place[1] - grid.points[at, 1]
                    dx = place[2] - grid.points[at, 2]
                    off = dz * normal[0] + dy * normal[1] + dx * normal[2]
                    if literal:
                        own = cleft[start[number] : start[number + 1]]
                        marked[v] = abs(off) <= wide + r and _near(own, place - off * normal, r)
                    elif abs(off) <= r + gap:
                        az, ay, ax = (
                            dz - off * normal[0],
                            dy - off * normal[1],
                            dx - off * normal[2],
                        )
                        rim = wide + r
                        if normal[0] == 0 and normal[1] == 0 and normal[2] == 0:
                            rim += gap  # a ball, which has no plane
                        marked[v] = az * az + ay * ay + ax * ax <= rim * rim


@kernel
def _near(points: np.ndarray, place: np.ndarray, radius: float) -> bool:
    """Whether a point is within the radius of a place."""
    for at in range(len(points)):
        dz, dy = points[at, 0] - place[0], points[at, 1] - place[1]
        dx = points[at, 2] - place[2]
        if dz * dz + dy * dy + dx * dx <= radius * radius:
            return True
    return False
