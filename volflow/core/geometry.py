"""Boxes, blocks and grids of blocks: zyx, half-open, in voxels.

|--------------------------------|   bounds
|hhh[wwwwww]hhh|                     block 0: reads h + w, writes w
       |hhh[wwwwww]hhh|              block 1
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np

Triple: TypeAlias = tuple[int, int, int]
"""z, y, x."""

Array = TypeVar("Array", bound=np.ndarray)


def triple(values: Sequence[int] | int) -> Triple:
    """A z, y, x triple from three integers, or from one for all axes.

    Raises
    ------
    ValueError
        If there are not exactly three.
    """
    if isinstance(values, int):
        return (values, values, values)
    z, y, x = values
    return (int(z), int(y), int(x))


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, `start` included, `stop` not."""

    start: Triple
    stop: Triple

    @classmethod
    def parse(cls, text: str) -> Box:
        """The box written as `z0:z1,y0:y1,x0:x1`."""
        found = re.fullmatch(r"\s*" + r"\s*,\s*".join([r"(-?\d+):(-?\d+)"] * 3) + r"\s*", text)
        if not found:
            raise ValueError(f"a box is written z0:z1,y0:y1,x0:x1 in voxels; got {text!r}")
        numbers = [int(number) for number in found.groups()]
        return cls(triple(numbers[0::2]), triple(numbers[1::2]))

    @property
    def shape(self) -> Triple:
        """Voxels along z, y, x; never negative."""
        return triple([max(0, b - a) for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices of this box in an array whose first voxel is (0, 0, 0)."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    def within(self, other: Box) -> tuple[slice, slice, slice]:
        """Slices of this box in an array that covers `other`."""
        return self.shift(triple([-a for a in other.start])).slices

    def shift(self, offset: Triple) -> Box:
        """The box moved by `offset` voxels."""
        return Box(
            triple([a + d for a, d in zip(self.start, offset, strict=True)]),
            triple([b + d for b, d in zip(self.stop, offset, strict=True)]),
        )

    def grow(self, halo: Triple) -> Box:
        """The box with `halo` more voxels on both sides."""
        return Box(
            triple([a - h for a, h in zip(self.start, halo, strict=True)]),
            triple([b + h for b, h in zip(self.stop, halo, strict=True)]),
        )

    def clip(self, other: Box) -> Box:
        """What both boxes share; empty where they do not meet."""
        start = triple([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stop = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box(start, triple([max(a, b) for a, b in zip(start, stop, strict=True)]))

    def covers(self, other: Box) -> bool:
        """Whether all of `other` lies inside."""
        return other.size == 0 or self.clip(other) == other

    def zoom_in(self, factor: Triple) -> Box:
        """The same region in voxels that are `factor` times smaller."""
        return Box(
            triple([a * f for a, f in zip(self.start, factor, strict=True)]),
            triple([b * f for b, f in zip(self.stop, factor, strict=True)]),
        )

    def zoom_out(self, factor: Triple) -> Box:
        """The smallest box of voxels `factor` times larger that covers this one."""
        return Box(
            triple([a // f for a, f in zip(self.start, factor, strict=True)]),
            triple([-(-b // f) for b, f in zip(self.stop, factor, strict=True)]),
        )

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a grid: what it writes, what it reads, and the bounds it lies in.

    `read` is `write` grown by the halo and not clipped: a volume fills what lies outside it.
    """

    index: Triple
    write: Box
    read: Box
    bounds: Box

    def crop(self, array: Array) -> Array:
        """The part of an array over the read box that the block writes."""
        return array[(..., *self.write.within(self.read))]  # type: ignore[return-value]

    def star(self, before: bool = True, after: bool = True) -> list[Box]:
        """The write box, and what of the read box lies straight before its faces.

        On request only on one side, `before` it or `after` it along the axes.

        ```
        . h .
        h w h        without the corners: they lie in other blocks still
        . h .
        ```
        """
        found = [self.write]
        for axis in range(3):
            ends = (
                (before, self.read.start[axis], self.write.start[axis]),
                (after, self.write.stop[axis], self.read.stop[axis]),
            )
            for wanted, first, last in ends:
                if wanted:
                    start, stop = list(self.write.start), list(self.write.stop)
                    start[axis], stop[axis] = first, last
                    found.append(Box(triple(start), triple(stop)))
        return found


@dataclass(frozen=True)
class BlockGrid:
    """Blocks of one shape laid over bounds from their start; the last of an axis may be shorter.

    Blocks are numbered in row-major order, so a run of numbers names a run of blocks.
    """

    bounds: Box
    shape: Triple
    halo: Triple = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.halo) < 0:
            raise ValueError(
                f"a grid needs blocks of at least one voxel and a halo of none or more; "
                f"got block {self.shape}, halo {self.halo}"
            )

    @cached_property  # asked several times for each of a million blocks
    def counts(self) -> Triple:
        """Blocks along z, y, x."""
        sides = zip(self.bounds.shape, self.shape, strict=True)
        return triple([-(-side // step) for side, step in sides])

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, key: int | Triple) -> Block:
        index = self.index(key) if isinstance(key, int) else self._inside(key)
        (az, ay, ax), (bz, by, bx), (sz, sy, sx) = self.bounds.start, self.bounds.stop, self.shape
        z, y, x = az + index[0] * sz, ay + index[1] * sy, ax + index[2] * sx
        write = Box((z, y, x), (min(z + sz, bz), min(y + sy, by), min(x + sx, bx)))
        read = write if self.halo == (0, 0, 0) else write.grow(self.halo)
        return Block(index, write, read, self.bounds)

    def index(self, number: int) -> Triple:
        """The z, y, x index of a block by its row-major number."""
        nz, ny, nx = self.counts
        if not 0 <= number < nz * ny * nx:
            raise IndexError(f"block number {number} is outside the grid of {len(self)} blocks")
        rest, x = divmod(number, nx)
        return (*divmod(rest, ny), x)

    def _inside(self, index: Triple) -> Triple:
        if not all(0 <= i < n for i, n in zip(index, self.counts, strict=True)):
            raise IndexError(f"block {index} is outside the grid of {self.counts} blocks")
        return index

    def number(self, index: Triple) -> int:
        """The row-major number of a block by its z, y, x index."""
        _, ny, nx = self.counts
        return (index[0] * ny + index[1]) * nx + index[2]

    def neighbours(self, index: Triple) -> list[Triple]:
        """Indices of the up to six blocks that share a face with this one."""
        found = []
        for axis, step in itertools.product(range(3), (-1, 1)):
            other = list(index)
            other[axis] += step
            if 0 <= other[axis] < self.counts[axis]:
                found.append(triple(other))
        return found

    def parent_grid(self, factor: Triple = (2, 2, 2)) -> BlockGrid:
        """The grid whose blocks are `factor` blocks of this one along each axis, without halo."""
        shape = triple([side * f for side, f in zip(self.shape, factor, strict=True)])
        return BlockGrid(self.bounds, shape)

    def children(self, parent: Block) -> list[Block]:
        """The blocks of this grid inside a block of a coarser grid, in row-major order.

        Raises
        ------
        ValueError
            If the parent's box does not start and end where blocks of this grid do.
        """
        start = [a - b for a, b in zip(parent.write.start, self.bounds.start, strict=True)]
        if any(a % s for a, s in zip(start, self.shape, strict=True)):
            raise ValueError(f"box {parent.write} is not made of blocks of shape {self.shape}")
        first = [a // s for a, s in zip(start, self.shape, strict=True)]
        sides = zip(parent.write.shape, self.shape, strict=True)
        counts = [-(-side // s) for side, s in sides]
        ranges = [range(a, a + n) for a, n in zip(first, counts, strict=True)]
        return [self[z, y, x] for z, y, x in itertools.product(*ranges)]
