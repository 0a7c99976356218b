"""Fragments: each voxel joins the neighbour across its strongest affinity.

The choice depends on voxels at a distance of at most two, so pieces computed block by block are
parts of the same fragments for any block shape. Where a block face cuts a fragment, a link
records that the two pieces belong together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel

PAD = (
    3  # for the choice of the voxel before the block: its neighbours and whether their pairs exist
)
NOTHING = 6  # direction of a voxel outside all fragments
ALONE = 7  # direction of a voxel that is a fragment by itself, without a neighbour to join


class Pieces(NamedTuple):
    """Fragments cut at the faces of a box, and the links across its low faces.

    labels : uint64, (Z, Y, X)
        1 + the C-order index, within the bounds, of the piece's last voxel; 0: no fragment.
    links : three bool arrays, (Y, X), (Z, X), (Z, Y)
        For the low face of each axis: whether the voxel belongs to the same fragment as the voxel
        before it.
    """

    labels: np.ndarray
    links: tuple[np.ndarray, np.ndarray, np.ndarray]


def fragments(
    affinity: np.ndarray, low: int = 1, high: int | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """The fragments of a whole volume.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    low : int, 0 to 255
        A voxel whose strongest affinity is below this belongs to no fragment.
    high : int or None
        Pairs with an affinity at or above this are joined as well.
    mask : bool, (Z, Y, X), or None
        True where voxels may belong to a fragment.

    Returns
    -------
    uint64, (Z, Y, X)
        1 + the C-order index of the fragment's last voxel; 0 where there is no fragment.
    """
    box = Box((0, 0, 0), affinity.shape[1:])
    return pieces(affinity, box, box, box, low=low, high=high, mask=mask).labels


def pieces(
    affinity: np.ndarray,
    read: Box,
    write: Box,
    bounds: Box,
    *,
    low: int = 1,
    high: int | None = None,
    mask: np.ndarray | None = None,
) -> Pieces:
    """The parts of all fragments inside one box of a larger volume.

    A voxel joins the neighbour across its strongest affinity. Ties go to the neighbour whose own
    six affinities have the larger sum, then to the first in the order -z +z -y +y -x +x. Pairs
    that leave the bounds or touch a masked voxel do not exist. A voxel without any pair counts as
    one whose strongest affinity is 0.

    Parameters
    ----------
    affinity : uint8, (3, *read.shape)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    read, write, bounds : Box
        The box of `affinity`, the box to label, and the box of the volume. `read` must extend 3
        voxels beyond `write` wherever the bounds do.
    low, high, mask
        As for `fragments`; the mask covers `read`.

    Returns
    -------
    Pieces
        Labels and links over `write`.

    Raises
    ------
    ValueError
        If an array does not cover `read`, or `read` is too small.
    """
    _check(affinity, read, write, bounds, mask)
    work = write.grow((PAD, PAD, PAD))
    pairs, solid = _existing_pairs(affinity, read, work, bounds, mask)
    if write.size == 0:
        z, y, x = write.shape
        faces = np.zeros((y, x), bool), np.zeros((z, x), bool), np.zeros((z, y), bool)
        return Pieces(np.zeros((z, y, x), np.uint64), faces)
    direction = _directions(pairs, solid, low)
    strong = 256 if high is None else max(high, low)
    roots = _roots(direction, pairs, strong)
    offset = [a - b for a, b in zip(write.start, bounds.start, strict=True)]
    _, height, width = bounds.shape
    labels = _labels(roots, offset[0], offset[1], offset[2], height, width)
    return Pieces(labels, _links(direction, pairs, strong))


def _check(
    affinity: np.ndarray, read: Box, write: Box, bounds: Box, mask: np.ndarray | None
) -> None:
    if affinity.dtype != np.uint8 or affinity.shape != (3, *read.shape):
        raise ValueError(
            f"expected uint8 affinities of shape {(3, *read.shape)} over the box {read}; "
            f"got {affinity.dtype} of shape {affinity.shape}"
        )
    if mask is not None and mask.shape != read.shape:
        raise ValueError(f"expected a mask of shape {read.shape}; got {mask.shape}")
    needed = write.grow((PAD, PAD, PAD)).clip(bounds)
    if not (read.covers(needed) and bounds.covers(write)):
        raise ValueError(
            f"labels of {write} within {bounds} need affinities of {needed}; got {read}"
        )


def _existing_pairs(
    affinity: np.ndarray, read: Box, work: Box, bounds: Box, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Affinities over `work`, 0 for pairs that do not exist, and whether each voxel exists."""
    known = read.clip(bounds).clip(work)
    pairs = np.zeros((3, *work.shape), np.uint8)
    pairs[(slice(None), *known.within(work))] = affinity[(slice(None), *known.within(read))]
    solid = np.zeros(work.shape, bool)
    solid[known.within(work)] = True if mask is None else mask[known.within(read)] != 0
    if mask is not None:
        pairs *= solid
    for axis in range(3):
        lower = np.moveaxis(solid, axis, 0)
        channel = np.moveaxis(pairs[axis], axis, 0)
        if mask is not None:
            channel[1:] *= lower[:-1]
        first = bounds.start[axis] - work.start[axis]
        if 0 <= first < len(channel):
            channel[first] = 0
    return pairs, solid


@kernel
def _sums(pairs: np.ndarray) -> np.ndarray:
    """Sum of the six affinities of each voxel except those at the high faces, uint16."""
    _, depth, height, width = pairs.shape
    total = np.zeros((depth, height, width), np.uint16)
    for z in range(depth - 1):
        for y in range(height - 1):
            for x in range(width - 1):
                total[z, y, x] = (
                    np.uint16(pairs[0, z, y, x])
                    + np.uint16(pairs[0, z + 1, y, x])
                    + np.uint16(pairs[1, z, y, x])
                    + np.uint16(pairs[1, z, y + 1, x])
                    + np.uint16(pairs[2, z, y, x])
                    + np.uint16(pairs[2, z, y, x + 1])
                )
    return total


@kernel
def _directions(pairs: np.ndarray, solid: np.ndarray, low: int) -> np.ndarray:
    """The neighbour that each voxel joins: 0..5 for -z +z -y +y -x +x, NOTHING or ALONE.

    Affinity, sum and order are packed into one integer, so that the choice is a plain maximum.
    Only voxels at least PAD - 1 from the low and PAD from the high faces are decided.
    """
    _, depth, height, width = pairs.shape
    total = _sums(pairs)
    direction = np.full((depth, height, width), NOTHING, np.uint8)
    keys = np.empty(width, np.int32)
    for z in range(PAD - 1, depth - PAD):
        for y in range(PAD - 1, height - PAD):
            for x in range(PAD - 1, width - PAD):
                key = (pairs[0, z, y, x] << 14) | (total[z - 1, y, x] << 3) | 7
                key = max(key, (pairs[0, z + 1, y, x] << 14) | (total[z + 1, y, x] << 3) | 6)
                key = max(key, (pairs[1, z, y, x] << 14) | (total[z, y - 1, x] << 3) | 5)
                key = max(key, (pairs[1, z, y + 1, x] << 14) | (total[z, y + 1, x] << 3) | 4)
                key = max(key, (pairs[2, z, y, x] << 14) | (total[z, y, x - 1] << 3) | 3)
                key = max(key, (pairs[2, z, y, x + 1] << 14) | (total[z, y, x + 1] << 3) | 2)
                keys[x] = key
            for x in range(PAD - 1, width - PAD):
                strongest = keys[x] >> 14
                if strongest > 0:
                    if strongest >= low:
                        direction[z, y, x] = 7 - (keys[x] & 7)
                elif low == 0 and solid[z, y, x]:
                    direction[z, y, x] = _direction_without_affinity(total, solid, z, y, x)
    return direction


@kernel
def _direction_without_affinity(
    total: np.ndarray, solid: np.ndarray, z: int, y: int, x: int
) -> int:
    """The direction of a voxel all of whose affinities are 0, for `low` of 0."""
    best, largest = ALONE, -1
    for way in range(6):
        step = 2 * (way & 1) - 1
        axis = way >> 1
        nz, ny, nx = z + step * (axis == 0), y + step * (axis == 1), x + step * (axis == 2)
        if solid[nz, ny, nx] and int(total[nz, ny, nx]) > largest:
            best, largest = way, int(total[nz, ny, nx])
    return best


@kernel
def _roots(direction: np.ndarray, pairs: np.ndarray, strong: int) -> np.ndarray:
    """The root voxel (flat index within the write box) of each voxel's piece; -1: no piece.

    A chain of choices ends in two voxels that chose each other, in a voxel that chose a neighbour
    beyond the box, or in a voxel that is alone. Longer rings are impossible: at its far end along
    its first axis, a ring would have had to prefer the direction that it came from.
    """
    depth, height, width = direction.shape
    depth, height, width = depth - 2 * PAD, height - 2 * PAD, width - 2 * PAD
    root = np.empty(depth * height * width, np.int32)
    step = np.array([-height * width, height * width, -width, width, -1, 1], np.int32)
    v = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                way = direction[z + PAD, y + PAD, x + PAD]
                if way == NOTHING:
                    root[v] = -1
                elif (
                    way == ALONE
                    or (way == 0 and z == 0)
                    or (way == 1 and z == depth - 1)
                    or (way == 2 and y == 0)
                    or (way == 3 and y == height - 1)
                    or (way == 4 and x == 0)
                    or (way == 5 and x == width - 1)
                ):
                    root[v] = v
                else:
                    root[v] = v + step[way]
                v += 1
    for v in range(len(root)):
        u = root[v]
        if u >= 0 and root[u] == v:
            root[v] = v
    for v in range(len(root)):
        _follow(root, v)
    if strong < 256:
        _join_strong(root, direction, pairs, strong)
    return root.reshape((depth, height, width))


@kernel
def _follow(root: np.ndarray, v: int) -> int:
    """The end of the chain that starts at v; the whole chain then points to it."""
    end = int(root[v])
    if end < 0:
        return -1
    while root[end] != end:
        end = int(root[end])
    while root[v] != end:
        following = int(root[v])
        root[v] = end
        v = following
    return end


@kernel
def _join_strong(root: np.ndarray, direction: np.ndarray, pairs: np.ndarray, strong: int) -> None:
    """Join the pieces of pairs whose affinity is at least `strong`, in place."""
    depth, height, width = direction.shape
    depth, height, width = depth - 2 * PAD, height - 2 * PAD, width - 2 * PAD
    back = (height * width, width, 1)
    v = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                here = (z, y, x)
                for axis in range(3):
                    u = v - back[axis]
                    if (
                        here[axis] > 0
                        and root[v] >= 0
                        and root[u] >= 0
                        and pairs[axis, z + PAD, y + PAD, x + PAD] >= strong
                    ):
                        root[_follow(root, u)] = _follow(root, v)
                v += 1
    for v in range(len(root)):
        _follow(root, v)


@kernel
def _labels(
    roots: np.ndarray, z0: int, y0: int, x0: int, bounds_height: int, bounds_width: int
) -> np.ndarray:
    """Labels of pieces by their last voxel: scanning backwards, it is the first one met."""
    depth, height, width = roots.shape
    labels = np.zeros((depth, height, width), np.uint64)
    last = np.zeros(depth * height * width, np.uint64)
    for z in range(depth - 1, -1, -1):
        for y in range(height - 1, -1, -1):
            row = ((z0 + z) * bounds_height + y0 + y) * bounds_width + x0 + 1
            for x in range(width - 1, -1, -1):
                root = roots[z, y, x]
                if root >= 0:
                    if last[root] == 0:
                        last[root] = row + x
                    labels[z, y, x] = last[root]
    return labels


def _links(
    direction: np.ndarray, pairs: np.ndarray, strong: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each voxel at a low face and the voxel before it joined each other."""
    faces = []
    inner = slice(PAD, -PAD)
    for axis in range(3):
        here: list[slice | int] = [inner, inner, inner]
        here[axis] = PAD
        before = list(here)
        before[axis] = PAD - 1
        own, other = direction[tuple(here)], direction[tuple(before)]
        link = (own == 2 * axis) | (other == 2 * axis + 1)
        strongly = (pairs[(axis, *here)] >= strong) & (own != NOTHING) & (other != NOTHING)
        faces.append(link | strongly)
    return faces[0], faces[1], faces[2]
