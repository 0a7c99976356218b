"""Which nodes of a skeleton lie at a synapse: those whose ball touches the disk of a cleft.

 ( v )        a disk is fitted to the points of each cleft; the ball around a node may stand off
-------       its plane by the gap between cleft and neurite
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numba
import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.point_grid import Cells, checked_points, in_cells, row_of, touched

Fit = Literal["geometric", "literal"]

GAP_NM = 60.0  # from the middle of a cleft across the membrane into the neurite
FLAT = 1e-9  # share of the largest extent below which points lie on a line


class Disks(NamedTuple):
    """A disk for each cleft.

    Attributes
    ----------
    centre : float64 array, (K, 3)
        Mean of the cleft's points, in nanometres.
    radius : float64 array, (K,)
        To the point furthest from the centre.
    normal : float64 array, (K, 3)
        Unit vector along which the points vary least; zeros where they lie on a line, so that
        they have no plane.
    """

    centre: np.ndarray
    radius: np.ndarray
    normal: np.ndarray


def disks(points: np.ndarray, cleft: np.ndarray) -> Disks:
    """The disk of each cleft, in the order of `np.unique(cleft)`.

    Parameters
    ----------
    points : float array, (M, 3)
        z, y, x in nanometres.
    cleft : integer array, (M,)
        Which cleft a point belongs to.

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
    return Disks(centre, radius, np.where(planar[:, None], axes[:, :, 0], 0.0))


def synapse_nodes(
    traced: SkeletonForest,
    points: np.ndarray,
    cleft: np.ndarray,
    *,
    fit: Fit = "geometric",
    gap_nm: float = GAP_NM,
) -> np.ndarray:
    """The nodes at a synapse: those whose ball reaches the disk of a cleft.

    Parameters
    ----------
    traced : Traced
        With radii.
    points : float array, (M, 3)
        Of clefts, z, y, x in nanometres.
    cleft : integer array, (M,)
        Which cleft a point belongs to.
    fit : {"geometric", "literal"}
        "geometric": the node lies within its own radius and `gap_nm` of the disk's plane, and
        within its radius of the disk's rim when seen along the normal. "literal": within disk
        radius and own radius of the plane, and its projection within its radius of a point of the
        cleft, as eq. (12) prints it.
    gap_nm : float
        From the cleft into the neurite; not used by "literal".

    Returns
    -------
    bool array, (N,)

    Raises
    ------
    ValueError
        If the arrays do not fit together, points are not finite, or fit or gap are not as above.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (12). Its two tolerances are the reverse of those of
    eq. (11), which is why they are swapped by default. A cleft without a plane, whose points lie on
    a line, is taken as a ball.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit is one of {', '.join(get_args(Fit))}; got {fit!r}")
    if not (np.isfinite(gap_nm) and gap_nm >= 0):
        raise ValueError(f"the gap must be nanometres, not negative; got {gap_nm}")
    points, start = _by_cleft(points, cleft)
    found = np.zeros(len(traced), bool)
    if not len(points) or not len(traced):
        return found
    disk = disks(points, np.repeat(np.arange(len(start) - 1), np.diff(start)))
    widest = float(disk.radius.max())
    cells = in_cells(disk.centre, widest + float(np.median(traced.radius)) + gap_nm)
    literal = fit == "literal"
    place, radius = traced.position, traced.radius
    _at_disks(place, radius, disk, widest, points, start, literal, gap_nm, cells, found)
    return found


def _by_cleft(points: np.ndarray, cleft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points sorted by cleft and place, and where each cleft starts, (K + 1,)."""
    places = checked_points(points, "clefts")
    ids = np.asarray(cleft)
    if ids.shape != (len(places),):
        raise ValueError(f"{len(places)} points of clefts need as many ids; got shape {ids.shape}")
    order = np.lexsort((*places.T[::-1], ids))
    start = np.unique(ids[order], return_index=True)[1]
    return places[order], np.append(start, len(ids))


@numba.njit(cache=True, nogil=True)
def _at_disks(
    position: np.ndarray,
    radius: np.ndarray,
    disk: Disks,
    widest: float,
    cleft: np.ndarray,
    start: np.ndarray,
    literal: bool,
    gap: float,
    cells: Cells,
    found: np.ndarray,
) -> None:
    """Sets `found` at the nodes whose ball reaches the disk of a cleft; `cells` has the centres."""
    for v in range(len(position)):
        r, place = radius[v], position[v]
        # both tolerances at once bound the distance to the centre
        low, high = touched(cells, place, 1.5 * (widest + r + gap))
        for z in range(low[0], high[0] + 1):
            for y in range(low[1], high[1] + 1):
                if found[v]:
                    break
                first, stop = row_of(cells, z, y, low[2], high[2])
                for at in range(first, stop):
                    if found[v]:
                        break
                    number = cells.number[at]
                    wide, normal = disk.radius[number], disk.normal[number]
                    dz = place[0] - cells.points[at, 0]
                    dy = place[1] - cells.points[at, 1]
                    dx = place[2] - cells.points[at, 2]
                    off = dz * normal[0] + dy * normal[1] + dx * normal[2]
                    if literal:
                        own = cleft[start[number] : start[number + 1]]
                        found[v] = abs(off) <= wide + r and _near(own, place - off * normal, r)
                    elif abs(off) <= r + gap:
                        az, ay, ax = (
                            dz - off * normal[0],
                            dy - off * normal[1],
                            dx - off * normal[2],
                        )
                        rim = wide + r
                        if normal[0] == 0 and normal[1] == 0 and normal[2] == 0:
                            rim += gap  # a ball: it has no plane to stand off from
                        found[v] = az * az + ay * ay + ax * ax <= rim * rim


@numba.njit(cache=True, nogil=True)
def _near(points: np.ndarray, place: np.ndarray, radius: float) -> bool:
    """Whether a point lies within the radius of a place."""
    for at in range(len(points)):
        dz, dy = points[at, 0] - place[0], points[at, 1] - place[1]
        dx = points[at, 2] - place[2]
        if dz * dz + dy * dy + dx * dx <= radius * radius:
            return True
    return False
