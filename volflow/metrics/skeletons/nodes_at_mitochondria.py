"""The nodes of skeletons that are at a mitochondrion.

  ·  ·                    the tube around an edge, centred on one of its nodes v:
==v=====o==   radius      as wide as the neurite, and extending along the line of the edge
  ·                       in both directions by the edge's length and a radius
"""

from __future__ import annotations

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


def mito_nodes(forest: SkeletonForest, points: np.ndarray) -> np.ndarray:
    """Whether each node has a point of a mitochondrion in the tube around one of its edges.

    Parameters
    ----------
    forest : SkeletonForest
        With radii.
    points : float array, (M, 3)
        Points of mitochondria, z, y, x in nanometres: their skeletons or some of their voxels.

    Returns
    -------
    bool array, (N,)

    Raises
    ------
    ValueError
        If points are not finite or have another shape.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (11). For a node whose edges have length 0 only the
    distance counts.
    """
    points = check_points(points, "mitochondria")
    at_mito = np.zeros(len(forest), bool)
    if not len(points) or not len(forest.edges):
        return at_mito
    reach = forest.lengths[:, None] + forest.radius[forest.edges]
    grid = make_grid(points, float(np.median(reach)))
    _mark_nodes(forest.position, forest.radius, forest.edges, forest.lengths, grid, at_mito)
    return at_mito


@kernel
def _mark_nodes(
    position: np.ndarray,
    radius: np.ndarray,
    edges: np.ndarray,
    lengths: np.ndarray,
    grid: PointGrid,
    marked: np.ndarray,
) -> None:
    """Set `marked` at the nodes with a point in the tube around one of their edges."""
    for edge in range(len(edges)):
        for end in range(2):
            v, other = edges[edge, end], edges[edge, 1 - end]
            if marked[v]:
                continue
            place, r, length = position[v], radius[v], lengths[edge]
            along = length + r
            way = (position[other] - place) / length if length > 0 else np.zeros(3)
            wz, wy, wx = way  # scalars: an array of three would be allocated for every point
            reach = np.sqrt(along * along + r * r) * (1 + 1e-9)
            low, high = cube_range(grid, place, reach)
            for z in range(low[0], high[0] + 1):
                for y in range(low[1], high[1] + 1):
                    if marked[v]:
                        break
                    start, stop = points_of_row(grid, z, y, low[2], high[2])
                    for at in range(start, stop):
                        dz = grid.points[at, 0] - place[0]
                        dy = grid.points[at, 1] - place[1]
                        dx = grid.points[at, 2] - place[2]
                        far = dz * wz + dy * wy + dx * wx
                        bz, by, bx = dz - far * wz, dy - far * wy, dx - far * wx
                        if abs(far) <= along and bz * bz + by * by + bx * bx <= r * r:
                            marked[v] = True
                            break
