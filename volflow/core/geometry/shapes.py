"""The blocks of a grid, counted by shape and by the share of their surface that is open."""

from __future__ import annotations

from collections import Counter

from volflow.core.geometry import BlockGrid, Box, Triple, zyx


def shape_counts(grid: BlockGrid, whole: Box) -> list[tuple[int, Triple, float]]:
    """The blocks of a grid by their shape and by how far they are open.

    Parameters
    ----------
    grid : BlockGrid
    whole : Box
        The volume that the grid covers, or covers a part of.

    Returns
    -------
    list of (count, shape, open share)
        The open share is the part of a block's surface, 0 to 1, that is not on the surface of the
        whole. However many blocks there are, an axis has at most nine combinations of side length
        and open faces.
    """
    along: list[Counter[tuple[int, int]]] = []
    for axis in range(3):
        counter: Counter[tuple[int, int]] = Counter()
        for place in range(grid.counts[axis]):
            start = grid.bounds.start[axis] + place * grid.shape[axis]
            stop = min(start + grid.shape[axis], grid.bounds.stop[axis])
            open_faces = (start > whole.start[axis]) + (stop < whole.stop[axis])
            counter[stop - start, open_faces] += 1
        along.append(counter)
    return [
        (nz * ny * nx, (z, y, x), _open_share((z, y, x), (fz, fy, fx)))
        for (z, fz), nz in along[0].items()
        for (y, fy), ny in along[1].items()
        for (x, fx), nx in along[2].items()
    ]


def _open_share(shape: Triple, open_faces: Triple) -> float:
    """The share of a box's surface in its open faces, 0 to 2 along each axis."""
    z, y, x = shape
    areas = zyx((y * x, z * x, z * y))
    return sum(areas * open_faces) / (2 * sum(areas))
