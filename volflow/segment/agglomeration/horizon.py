"""The planes of a horizon, and the levels of blocks up to its boxes."""

from __future__ import annotations

import math

from volflow.core.geometry import BlockGrid, Box, Triple, Zyx, zyx


def inner_faces(box: Box, bounds: Box, horizon: Triple | None = None) -> tuple[int, int]:
    """The faces of a box that are inside the bounds, as bits (see `graph_tables`).

    Returns
    -------
    near, far : int
        Faces in the interior of a box of the horizon, and faces on its planes, which are at
        multiples of the horizon from the start of the bounds. Without a horizon all are near.
    """
    near = far = 0
    for axis in range(3):
        low, high = bounds.start[axis], bounds.stop[axis]
        for side, place in enumerate((box.start[axis], box.stop[axis])):
            if low < place < high:
                on_plane = horizon is not None and (place - low) % horizon[axis] == 0
                near |= (not on_plane) << (2 * axis + side)
                far |= on_plane << (2 * axis + side)
    return near, far


def steps_to_horizon(grid: BlockGrid, horizon: Triple) -> list[Zyx]:
    """Children per parent along each axis, level by level from the grid to the horizon's boxes."""
    remaining = [
        far // side if far < length else 1 << (count - 1).bit_length()
        for far, side, length, count in zip(
            horizon, grid.shape, grid.bounds.shape, grid.counts, strict=True
        )
    ]
    steps = []
    while max(remaining) > 1:
        steps.append(zyx([_smallest_factor(count) for count in remaining]))
        remaining = [count // factor for count, factor in zip(remaining, steps[-1], strict=True)]
    return steps


def _smallest_factor(count: int) -> int:
    return next((n for n in range(2, count + 1) if count % n == 0), 1)


def max_open_voxels(children: BlockGrid, shape: Triple) -> int:
    """Upper bound of the voxels on faces of a node's children that are not on the bounds.

    Parameters
    ----------
    children : BlockGrid
    shape : (int, int, int)
        Shape of the node; along an axis where it has the length of the bounds, it is the only node.
    """
    voxels = 0
    for axis in range(3):
        extent = children.bounds.shape[axis]
        area = math.prod(shape) // shape[axis]
        nodes, inside = -(-extent // shape[axis]), -(-shape[axis] // children.shape[axis])
        voxels += area * (2 * (inside - 1) + min(2, nodes - 1))
    return voxels
