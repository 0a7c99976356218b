"""The blocks of one phase of a chain: one part of each slab.

z  |ooooo|.....|.....|ooooo|.....|.....|ooooo|...|     bounds: three slabs of up to three parts
    chain.0           chain.0           chain.0        the parts of this phase, o
   ccc[wwwww]                                          a part reads c + w and writes w;
               ccc[wwwww]vv                            the last one of a slab reads v, too
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from volflow.core.geometry import Block, BlockGrid, Box, Triple, Zyx


@dataclass(frozen=True, init=False)
class ChainGrid(BlockGrid):
    """The blocks of one phase of a chain, of the grid whose blocks are all parts.

    Indices are those of the grid of all parts; numbers count the parts of this phase, row-major.
    The halo along z is the context: sections read before a part, in the direction of the chain and
    within its slab. The last part of a slab reads `overlap` sections beyond it, within the bounds.
    """

    slab: int
    """Sections of a slab, a multiple of the sections of a part."""
    turn: int
    """Number of the phase: each slab has its part of this number, in the chain's direction."""
    overlap: int
    """Sections of the next slab that the last part of a slab reads."""
    reverse: bool
    """Whether chains run from the last section of a slab to its first."""

    def __init__(
        self,
        bounds: Box,
        shape: Iterable[int],
        halo: Iterable[int] = (0, 0, 0),
        whole: Box | None = None,
        *,
        slab: int,
        turn: int = 0,
        overlap: int = 0,
        reverse: bool = False,
    ) -> None:
        super().__init__(bounds, shape, halo, whole)
        object.__setattr__(self, "slab", slab)
        object.__setattr__(self, "turn", turn)
        object.__setattr__(self, "overlap", overlap)
        object.__setattr__(self, "reverse", reverse)
        if slab < 1 or slab % self.shape[0]:
            raise ValueError(f"expected a slab of whole parts of {self.shape[0]}, got {slab}")

    @property
    def slabs(self) -> int:
        """Number of slabs that have a part in this phase."""
        whole, rest = divmod(self.counts[0], self._parts)
        return whole + (rest > self.turn)

    @property
    def turns(self) -> int:
        """Number of phases: parts of the deepest slab."""
        return min(self._parts, self.counts[0])

    @property
    def _parts(self) -> int:
        return self.slab // self.shape[0]

    def __len__(self) -> int:
        return self.slabs * self.counts[1] * self.counts[2]

    def __getitem__(self, key: int | Triple) -> Block:
        block = BlockGrid.__getitem__(self, key)
        slab = self._slab(block.index[0])
        start, stop = block.write.start[0], block.write.stop[0]
        first, last = slab.start[0], slab.stop[0]
        if self.reverse:
            beyond = self.overlap if start == first else 0
            start, stop = start - beyond, min(stop + self.halo[0], last)
        else:
            beyond = self.overlap if stop == last else 0
            start, stop = max(start - self.halo[0], first), stop + beyond
        start, stop = max(start, self.bounds.start[0]), min(stop, self.bounds.stop[0])
        (_, y, x), (_, end_y, end_x) = block.read.start, block.read.stop
        return replace(block, read=Box(Zyx(start, y, x), Zyx(stop, end_y, end_x)))

    def index(self, number: int) -> Zyx:
        """The index, among all parts, of a block by its number in this phase."""
        if not 0 <= number < len(self):
            raise IndexError(f"block number {number} is outside the phase of {len(self)} blocks")
        _, ny, nx = self.counts
        rest, x = divmod(number, nx)
        slab, y = divmod(rest, ny)
        return Zyx(self._part(slab), y, x)

    def number(self, index: Triple) -> int:
        """The number in this phase of a block by its index among all parts."""
        _, ny, nx = self.counts
        return (index[0] // self._parts * ny + index[1]) * nx + index[2]

    def previous(self, index: Triple) -> Zyx | None:
        """The index of the part before one, of which a chain has the state; None for the first."""
        if not self.turn:
            return None
        z, y, x = index
        return Zyx(z + 1 if self.reverse else z - 1, y, x)

    def read_shapes(self) -> Iterator[tuple[int, Zyx]]:
        """The read boxes of the blocks by their shape: how many of each, and the shape."""
        return ((count, block.read.shape) for count, block in self._samples())

    def made_shapes(self) -> Iterator[tuple[int, Zyx]]:
        """The same without the context: the sections of a part and its overlap, with margins."""
        for count, block in self._samples():
            depth = block.read.shape[0] - self._context(block)
            yield count, Zyx(depth, *block.read.shape[1:])

    @property
    def written(self) -> int:
        """Number of voxels that the blocks of this phase write."""
        return sum(count * block.write.size for count, block in self._samples())

    def _context(self, block: Block) -> int:
        if self.reverse:
            return block.read.stop[0] - block.write.stop[0]
        return block.write.start[0] - block.read.start[0]

    def _slab(self, part: int) -> Box:
        """The box of the slab with a part, over the whole section."""
        first = self.bounds.start[0] + part // self._parts * self.slab
        (_, y, x), (stop, end_y, end_x) = self.bounds.start, self.bounds.stop
        return Box((first, y, x), (min(first + self.slab, stop), end_y, end_x))

    def _part(self, slab: int) -> int:
        """The index along z of this phase's part of a slab."""
        first = slab * self._parts
        parts = min(self._parts, self.counts[0] - first)
        return first + (parts - 1 - self.turn if self.reverse else self.turn)

    def _inside(self, index: Triple) -> Zyx:
        inside = BlockGrid._inside(self, index)
        slab = inside[0] // self._parts
        if slab >= self.slabs or self._part(slab) != inside[0]:
            raise IndexError(f"block {index} belongs to another phase of the chain")
        return inside

    def _samples(self) -> Iterator[tuple[int, Block]]:
        """One block of each kind: at the ends of z, y and x, and between them; how many of each."""
        _, ny, nx = self.counts
        for slabs, slab in _ends(self.slabs, 2):
            for rows, y in _ends(ny, 1):
                for columns, x in _ends(nx, 1):
                    yield slabs * rows * columns, self[self._part(slab), y, x]


def _ends(count: int, last: int) -> Iterator[tuple[int, int]]:
    """Places 0 to `count` - 1 that stand for all: the first, the `last` ones, one between them."""
    middle = count - 1 - last
    if middle > 0:
        yield from ((1, 0), (middle, 1))
    yield from ((1, place) for place in range(count - last if middle > 0 else 0, count))
