"""Boxes, blocks and grids of blocks: zyx, half-open, in voxels.

|--------------------------------|   bounds
|hhh[wwwwww]hhh|                     block 0: reads h + w, writes w
       |hhh[wwwwww]hhh|              block 1
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

Triple: TypeAlias = tuple[int, int, int]
"""z, y, x as parameters take them; computed coordinates are `Zyx`."""

Array = TypeVar("Array", bound=np.ndarray)


class Zyx(NamedTuple):
    """Integers along z, y, x, with arithmetic axis by axis.

    Equal to the plain tuple of the same numbers, with the same repr. The other operand is three
    integers, or one for all axes; division rounds down, `-(-a // b)` rounds up.
    """

    z: int
    y: int
    x: int

    def __add__(self, other: Triple | int) -> Zyx:  # type: ignore[override]
        z, y, x = _three(other)
        return Zyx(self[0] + z, self[1] + y, self[2] + x)

    def __sub__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] - z, self[1] - y, self[2] - x)

    def __mul__(self, other: Triple | int) -> Zyx:  # type: ignore[override]
        z, y, x = _three(other)
        return Zyx(self[0] * z, self[1] * y, self[2] * x)

    def __floordiv__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] // z, self[1] // y, self[2] // x)

    def __mod__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] % z, self[1] % y, self[2] % x)

    def __neg__(self) -> Zyx:
        return Zyx(-self[0], -self[1], -self[2])

    def __repr__(self) -> str:
        return f"({self[0]}, {self[1]}, {self[2]})"

    def minimum(self, other: Triple | int) -> Zyx:
        """The smaller number on each axis."""
        z, y, x = _three(other)
        return Zyx(min(self[0], z), min(self[1], y), min(self[2], x))

    def maximum(self, other: Triple | int) -> Zyx:
        """The larger number on each axis."""
        z, y, x = _three(other)
        return Zyx(max(self[0], z), max(self[1], y), max(self[2], x))


def _three(values: Triple | int) -> Triple:
    return (values, values, values) if isinstance(values, int) else values


def zyx(values: Iterable[int] | int) -> Zyx:
    """Coordinates from three integers z, y, x, or from one for all axes.

    Raises
    ------
    ValueError
        If there are not exactly three integers.
    """
    if isinstance(values, int):
        return Zyx(values, values, values)
    z, y, x = values
    return Zyx(int(z), int(y), int(x))


@dataclass(frozen=True, slots=True, init=False)
class Box:
    """A half-open box of voxels: `start` is included, `stop` is not."""

    start: Zyx
    stop: Zyx

    def __init__(self, start: Iterable[int], stop: Iterable[int]) -> None:
        object.__setattr__(self, "start", start if isinstance(start, Zyx) else Zyx(*start))
        object.__setattr__(self, "stop", stop if isinstance(stop, Zyx) else Zyx(*stop))

    @classmethod
    def parse(cls, text: str) -> Box:
        """The box written as `z0:z1,y0:y1,x0:x1`.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        match = re.fullmatch(r"\s*" + r"\s*,\s*".join([r"(-?\d+):(-?\d+)"] * 3) + r"\s*", text)
        if not match:
            raise ValueError(f"expected a box z0:z1,y0:y1,x0:x1 in voxels, got {text!r}")
        numbers = [int(number) for number in match.groups()]
        return cls(numbers[0::2], numbers[1::2])

    @property
    def shape(self) -> Zyx:
        """Number of voxels along z, y, x; never negative."""
        return (self.stop - self.start).maximum(0)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices of this box in an array that starts at voxel (0, 0, 0)."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    def within(self, other: Box) -> tuple[slice, slice, slice]:
        """Slices of this box in an array that covers `other`."""
        return self.shift(-other.start).slices

    def shift(self, offset: Triple) -> Box:
        """The box moved by `offset` voxels."""
        return Box(self.start + offset, self.stop + offset)

    def grow(self, halo: Triple) -> Box:
        """The box with `halo` more voxels on both sides."""
        return Box(self.start - halo, self.stop + halo)

    def clip(self, other: Box) -> Box:
        """The intersection of both boxes; empty if they do not overlap."""
        start = self.start.maximum(other.start)
        return Box(start, self.stop.minimum(other.stop).maximum(start))

    def covers(self, other: Box) -> bool:
        """Whether all of `other` is inside this box."""
        return other.size == 0 or self.clip(other) == other

    def zoom_in(self, factor: Triple) -> Box:
        """The same region in voxels `factor` times smaller."""
        return Box(self.start * factor, self.stop * factor)

    def zoom_out(self, factor: Triple) -> Box:
        """The smallest box of voxels `factor` times larger that covers this one."""
        return Box(self.start // factor, -(-self.stop // factor))

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a grid: the box it writes, the box it reads, and the bounds of the volume.

    `read` is `write` grown by the halo, without clipping: voxels outside a volume read as a fill
    value.
    """

    index: Zyx
    write: Box
    read: Box
    bounds: Box

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
    shape: Zyx
    halo: Zyx

    def __init__(self, bounds: Box, shape: Iterable[int], halo: Iterable[int] = (0, 0, 0)) -> None:
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "shape", Zyx(*shape))
        object.__setattr__(self, "halo", Zyx(*halo))
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
        start = self.bounds.start + self.shape * index
        write = Box(start, (start + self.shape).minimum(self.bounds.stop))
        read = write if self.halo == (0, 0, 0) else write.grow(self.halo)
        return Block(index, write, read, self.bounds)

    def index(self, number: int) -> Zyx:
        """The z, y, x index of a block by its row-major number."""
        nz, ny, nx = self.counts
        if not 0 <= number < nz * ny * nx:
            raise IndexError(f"block number {number} is outside the grid of {len(self)} blocks")
        rest, x = divmod(number, nx)
        return Zyx(*divmod(rest, ny), x)

    def _inside(self, index: Triple) -> Zyx:
        if not all(0 <= i < n for i, n in zip(index, self.counts, strict=True)):
            raise IndexError(f"block {index} is outside the grid of {self.counts} blocks")
        return Zyx(*index)

    def number(self, index: Triple) -> int:
        """The row-major number of a block by its z, y, x index."""
        _, ny, nx = self.counts
        return (index[0] * ny + index[1]) * nx + index[2]

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
