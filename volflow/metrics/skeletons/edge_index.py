"""Which nodes of a skeleton lie at a mitochondrion.

  ·  ·                    the tube around an edge, laid at one of its nodes v:
==v=====o==   radius      as wide as the neurite, and reaching along the line of the edge,
  ·                       both ways, as far as the edge is long and a radius more
"""

from __future__ import annotations

import numba
import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.point_grid import Cells, checked_points, in_cells, row_of, touched


def mito_nodes(traced: SkeletonForest, points: np.ndarray) -> np.ndarray:
    """The nodes that have a mitochondrion inside the tube around one of their edges.

    Parameters
    ----------
    traced : Traced
        With radii.
    points : float array, (M, 3)
        Of mitochondria, z, y, x in nanometres: their skeletons or some of their voxels.

    Returns
    -------
    bool array, (N,)

    Raises
    ------
    ValueError
        If points are not finite or of another shape.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (11). A node whose edges have no length is compared by
    distance alone.
    """
    points = checked_points(points, "mitochondria")
    found = np.zeros(len(traced), bool)
    if not len(points) or not len(traced.edges):
        return found
    reach = traced.lengths[:, None] + traced.radius[traced.edges]
    cells = in_cells(points, float(np.median(reach)))
    _tubes(traced.position, traced.radius, traced.edges, traced.lengths, cells, found)
    return found


@numba.njit(cache=True, nogil=True)
def _tubes(
    position: np.ndarray,
    radius: np.ndarray,
    edges: np.ndarray,
    lengths: np.ndarray,
    cells: Cells,
    found: np.ndarray,
) -> None:
    """Sets `found` at the nodes with a point in the tube around one of their edges."""
    for edge in range(len(edges)):
        for end in range(2):
            v, other = edges[edge, end], edges[edge, 1 - end]
            if found[v]:
                continue
            place, r, length = position[v], radius[v], lengths[edge]
            along = length + r
            way = (position[other] - place) / length if length > 0 else np.zeros(3)
            wz, wy, wx = way  # numbers: arrays of three would be made anew for every point
            reach = np.sqrt(along * along + r * r) * (1 + 1e-9)
            low, high = touched(cells, place, reach)
            for z in range(low[0], high[0] + 1):
                for y in range(low[1], high[1] + 1):
                    if found[v]:
                        break
                    start, stop = row_of(cells, z, y, low[2], high[2])
                    for at in range(start, stop):
                        dz = cells.points[at, 0] - place[0]
                        dy = cells.points[at, 1] - place[1]
                        dx = cells.points[at, 2] - place[2]
                        far = dz * wz + dy * wy + dx * wx
                        bz, by, bx = dz - far * wz, dy - far * wy, dx - far * wx
                        if abs(far) <= along and bz * bz + by * by + bx * bx <= r * r:
                            found[v] = True
                            break
