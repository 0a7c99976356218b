"""A chain: sections in order, part by part, each part from the stored state of the one before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage.chain_grid import ChainGrid
from volflow.core.stage.layer import Record
from volflow.core.stage.phase import Phase
from volflow.core.stage.stage import Stage

Side = Annotated[int, Field(ge=1)]


class Onward(NamedTuple):
    """The outcome of a part of a chain.

    Attributes
    ----------
    outputs : dict
        Arrays and records by output, as `Stage.run` returns them.
    state : Record
        The record with which the next part of the chain begins: columns of numbers, booleans or
        fixed-length strings, of any shape.
    """

    outputs: dict[str, np.ndarray | Record]
    state: Record


class Chain(Stage):
    """Sections in order: each part of a slab begins with the state that the one before left.

    A subclass defines `outputs` and `step`. The volume is divided into slabs along z and tiles
    along y and x; a slab of a tile is one chain, and chains are independent of one another. A part
    always begins with the stored state, so an interrupted chain resumes like an undisturbed one.

        slab 0, tile 0    [part 0] -state-> [part 1] -state-> [part 2]
        slab 1, tile 0    [part 3] -state-> [part 4] -state-> [part 5]
                           chain.0           chain.1           chain.2

    The blocks of the step are its parts, `part` sections of a tile. They follow from the
    parameters alone, and the pipeline's `block` has no influence. A table that `step` returns has
    one record per part, for readers with blocks of that shape.

    The halo along y and x is a margin around the tile; along z it is the context, sections of the
    slab that are read before the part. The last part of a slab reads `slab_overlap` sections of
    the next slab, too, which that slab writes: a table about them shows which objects continue.
    """

    slab: Annotated[int, Field(ge=0)] = 0
    """Sections of a slab, from the first section of the bounds; a multiple of `part`. 0: all."""
    slab_overlap: Annotated[int, Field(ge=0)] = 0
    """Sections beyond its slab, in the next one, that a chain reads and does not write."""
    part: Side = 16
    """Sections between two stored states; chunks of the outputs divide it."""
    tile: tuple[Side, Side] | None = None
    """Sides y x of the tiles into which sections are divided, voxels. Default: one tile."""
    reverse: bool = False
    """Whether chains run from the last section of a slab to its first."""

    @classmethod
    def entry(cls) -> Any:
        return cls.step

    def block_on(self, bounds: Box, shape: Triple) -> Triple:
        """The shape of the parts, whatever the pipeline's blocks."""
        return zyx((self.part, *(self.tile or bounds.shape[1:])))

    def check(self, grid: BlockGrid) -> list[str]:
        problems = []
        if self.slab % self.part:
            fit = max(1, round(self.slab / self.part)) * self.part
            problems.append(
                f"slab: expected a multiple of part, which is {self.part} sections, as no two "
                f"blocks may write one chunk; got {self.slab}; nearest slab that fits: {fit}"
            )
        if 0 < self.slab < self.slab_overlap:
            problems.append(
                f"slab_overlap: a slab of {self.slab} sections is thinner than its overlap; "
                f"expected at most {self.slab}, got {self.slab_overlap}"
            )
        return problems

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        shape = self.block_on(grid.bounds, grid.shape)
        halo = self.halo_on(grid.bounds, shape)
        depth = -(-grid.bounds.shape[0] // self.part) * self.part
        grids = [
            ChainGrid(
                grid.bounds,
                shape,
                halo,
                slab=self.slab or depth,
                turn=turn,
                overlap=self.slab_overlap,
                reverse=self.reverse,
            )
            for turn in range((self.slab or depth) // self.part)
        ]
        return tuple(
            Phase(f"chain.{turn}", "chain", each) for turn, each in enumerate(grids) if len(each)
        )

    def written_scales(self, grid: BlockGrid) -> set[int]:
        return {0}

    def result_tables(self, inputs: Collection[str]) -> tuple[str, ...]:
        """The output tables from which `result` is computed; none if the step has no result.

        Parameters
        ----------
        inputs : collection of str
            The connected inputs.
        """
        return ()

    def result(self, tables: Mapping[str, Record]) -> dict[str, Any]:
        """The JSON result of the finished step.

        Parameters
        ----------
        tables : mapping
            The `result_tables`, with the rows of all parts.
        """
        return {}

    def part_memory(self, shape: Triple, inputs: Collection[str]) -> int:
        """Peak bytes of a part whose read box has this shape; `inputs` are those connected."""
        return self.memory(shape)

    def part_effort(self, shape: Triple) -> float:
        """The quantity that the time of a part grows with.

        Parameters
        ----------
        shape : (int, int, int)
            Sections of the part and of the overlap that it reads, without context; sides of the
            tile with its margins.
        """
        return float(np.prod(shape))

    def sections(self, block: Block) -> range:
        """The sections of a part in the order of the chain, then of the overlap, by their z."""
        if self.reverse:
            return range(block.write.stop[0] - 1, block.read.start[0] - 1, -1)
        return range(block.write.start[0], block.read.stop[0])

    def context(self, block: Block) -> range:
        """The sections that are read before a part, in the order of the chain, by their z."""
        if self.reverse:
            return range(block.read.stop[0] - 1, block.write.stop[0] - 1, -1)
        return range(block.read.start[0], block.write.start[0])

    def step(self, block: Block, state: Record | None, **inputs: np.ndarray) -> Onward:
        """The outputs of a part, and the state for the next one.

        Parameters
        ----------
        block : Block
            The part (`write`), and what is read for it (`read`): context, overlap and margins.
        state : Record or None
            The state that the part before left; None for the first part of a slab.
        inputs : arrays
            The volumes over the read box.
        """
        raise TypeError(f"{type(self).__name__} has no step()")
