"""The planes of a horizon, and the levels of blocks that lead up to its boxes."""

from __future__ import annotations

import math

from volflow.core.geometry import BlockGrid, Box, Triple, Zyx, zyx


def inner_faces(box: Box, bounds: Box, horizon: Triple | None = None) -> tuple[int, int]:
    """The faces of a box inside the bounds, as bits (see `tables`).

    Returns
    -------
    near, far : int
        Faces within a box of the horizon, and faces on its planes, which are counted from the
        start of the bounds. Without a horizon all are near.
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
    """Blocks of each axis to a parent, level by level, from a grid's up to the horizon's boxes."""
    left = [
        far // side if far < length else 1 << (count - 1).bit_length()
        for far, side, length, count in zip(
            horizon, grid.shape, grid.bounds.shape, grid.counts, strict=True
        )
    ]
    steps = []
    while max(left) > 1:
        steps.append(zyx([_smallest_factor(count) for count in left]))
        left = [count // factor for count, factor in zip(left, steps[-1], strict=True)]
    return steps


def _smallest_factor(count: int) -> int:
    return next((n for n in range(2, count + 1) if count % n == 0), 1)


def most_open(children: BlockGrid, shape: Triple) -> int:
    """The most voxels that the faces of a node's children have which do not lie on the bounds.

    Parameters
    ----------
    children : BlockGrid
    shape : (int, int, int)
        Of the node; a side as long as the bounds is taken for all of them.
    """
    found = 0
    for axis in range(3):
        extent = children.bounds.shape[axis]
        area = math.prod(shape) // shape[axis]
        nodes, inside = -(-extent // shape[axis]), -(-shape[axis] // children.shape[axis])
        found += area * (2 * (inside - 1) + min(2, nodes - 1))
    return found
