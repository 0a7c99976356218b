"""Blocks, and grids of blocks laid over bounds.

|--------------------------------|   bounds
|hhh[wwwwww]hhh|                     block 0: reads h + w, writes w
       |hhh[wwwwww]hhh|              block 1
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from volflow.core.geometry.box import Box
from volflow.core.geometry.coordinates import Triple, Zyx, zyx

Array = TypeVar("Array", bound=np.ndarray)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a grid: the box it writes, the box it reads, and the bounds of the volume."""

    index: Zyx
    """Its place in the grid, z y x."""
    write: Box
    """Voxels that it writes."""
    read: Box
    """`write` grown by the halo, without clipping: voxels outside a volume read as a fill value."""
    bounds: Box
    """Voxels of all blocks."""

    def crop(self, array: Array) -> Array:
        """The part over the write box of an array over the read box."""
        return array[(..., *self.write.within(self.read))]  # type: ignore[return-value]

    def star(self, before: bool = True, after: bool = True) -> list[Box]:
        """The write box and the parts of the read box directly in front of its faces.

        With `before` or `after` False, without the faces on that side along each axis.

        ```
        . h .
        h w h        without edges and corners, which belong to other blocks
        . h .
        ```
        """
        boxes = [self.write]
        for axis in range(3):
            ends = (
                (before, self.read.start[axis], self.write.start[axis]),
                (after, self.write.stop[axis], self.read.stop[axis]),
            )
            for included, first, last in ends:
                if included:
                    start, stop = list(self.write.start), list(self.write.stop)
                    start[axis], stop[axis] = first, last
                    boxes.append(Box(start, stop))
        return boxes


@dataclass(frozen=True, init=False)
class BlockGrid:
    """Blocks of one shape that tile the bounds; the last one along an axis may be shorter.

    Blocks are numbered in row-major order, so a range of numbers is a range of blocks.
    """

    bounds: Box
    """Voxels of all blocks."""
    shape: Zyx
    """Side lengths of a block z y x, voxels."""
    halo: Zyx
    """Voxels that a block reads beyond those that it writes, on each side, z y x."""
    whole: Box
    """The bounds that blocks carry: of a larger volume, where a trial runs a part of it."""

    def __init__(
        self,
        bounds: Box,
        shape: Iterable[int],
        halo: Iterable[int] = (0, 0, 0),
        whole: Box | None = None,
    ) -> None:
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "shape", Zyx(*shape))
        object.__setattr__(self, "halo", Zyx(*halo))
        object.__setattr__(self, "whole", whole or bounds)
        if min(self.shape) < 1 or min(self.halo) < 0:
            raise ValueError(
                f"expected a block of at least 1 voxel and a halo of at least 0 on each axis, "
                f"got block {self.shape} and halo {self.halo}"
            )

    @cached_property  # used several times for each of a million blocks
    def counts(self) -> Zyx:
        """Number of blocks along z, y, x."""
        return -(-self.bounds.shape // self.shape)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, key: int | Triple) -> Block:
        index = self.index(key) if isinstance(key, int) else self._inside(key)
        # Axis by axis, as this runs twice for each block: half the time of arithmetic with `Zyx`.
        (z, y, x), (sz, sy, sx) = self.bounds.start, self.shape
        z, y, x = z + index[0] * sz, y + index[1] * sy, x + index[2] * sx
        end_z, end_y, end_x = self.bounds.stop
        stop = Zyx(min(z + sz, end_z), min(y + sy, end_y), min(x + sx, end_x))
        write = Box(Zyx(z, y, x), stop)
        read = write if self.halo == (0, 0, 0) else write.grow(self.halo)
        return Block(index, write, read, self.whole)

    def index(self, number: int) -> Zyx:
        """The z, y, x index of a block by its row-major number."""
        nz, ny, nx = self.counts
        if not 0 <= number < nz * ny * nx:
            raise IndexError(f"block number {number} is outside the grid of {len(self)} blocks")
        rest, x = divmod(number, nx)
        z, y = divmod(rest, ny)
        return Zyx(z, y, x)

    def _inside(self, index: Triple) -> Zyx:
        if not all(0 <= i < n for i, n in zip(index, self.counts, strict=True)):
            raise IndexError(f"block {index} is outside the grid of {self.counts} blocks")
        return Zyx(*index)

    def number(self, index: Triple) -> int:
        """The row-major number of a block by its z, y, x index."""
        _, ny, nx = self.counts
        return (index[0] * ny + index[1]) * nx + index[2]

    def touching(self, box: Box) -> list[Zyx]:
        """Indices of the blocks whose write boxes share voxels with a box, in row-major order."""
        inside = box.clip(self.bounds)
        if not inside.size:
            return []
        first = (inside.start - self.bounds.start) // self.shape
        last = -(-(inside.stop - self.bounds.start) // self.shape)
        ranges = [range(a, b) for a, b in zip(first, last, strict=True)]
        return [zyx(index) for index in itertools.product(*ranges)]

    def neighbours(self, index: Triple) -> list[Zyx]:
        """Indices of the up to six blocks that share a face with this one."""
        indices = []
        for axis, step in itertools.product(range(3), (-1, 1)):
            other = list(index)
            other[axis] += step
            if 0 <= other[axis] < self.counts[axis]:
                indices.append(zyx(other))
        return indices

    def parent_grid(self, factor: Triple = (2, 2, 2)) -> BlockGrid:
        """The grid without halo whose blocks have `factor` blocks of this grid along each axis."""
        return BlockGrid(self.bounds, self.shape * factor)

    def children(self, parent: Block) -> list[Block]:
        """The blocks of this grid inside a block of a coarser grid, in row-major order.

        Raises
        ------
        ValueError
            If the parent's box does not start where a block of this grid starts.
        """
        start = parent.write.start - self.bounds.start
        if any(start % self.shape):
            raise ValueError(f"box {parent.write} does not start at a block of shape {self.shape}")
        first = start // self.shape
        last = first - (-parent.write.shape // self.shape)
        ranges = [range(a, b) for a, b in zip(first, last, strict=True)]
        return [self[z, y, x] for z, y, x in itertools.product(*ranges)]
