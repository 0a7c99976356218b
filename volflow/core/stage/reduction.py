"""A reduction: records of blocks joined up a pyramid of grids, and sent down again on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from volflow.core.geometry import Block, BlockGrid, Triple, zyx
from volflow.core.stage.layer import Record
from volflow.core.stage.phase import Phase
from volflow.core.stage.stage import Stage


class Up(NamedTuple):
    """A node's records on the way up: `passed` to its parent, `retained` for the way down."""

    passed: Record
    retained: Record


class PreviousRound(NamedTuple):
    """A leaf's own part of the previous round.

    Attributes
    ----------
    retained : Record
    received : Record or None
        The record from its parent; None if the leaf was its own root.
    neighbour_records : mapping
        The same of neighbouring blocks, by offset, for those that the stage asked for
        (`Reduction.neighbour_records`).
    """

    retained: Record
    received: Record | None
    neighbour_records: Mapping[Triple, PreviousRound] = MappingProxyType({})


class Reduction(Stage):
    """Rounds up a pyramid of grids, from the blocks to one node; down again if `descends`.

    In a round each block produces a record (`leaf`), each node joins those of its children
    (`join`), and on the way down each node sends every child a record (`split`). A leaf of the
    next round receives what it retained and what its parent sent. In the end each block writes the
    step's outputs (`finish`), or the roots of the last round give its result (`result`).
    """

    @property
    def rounds(self) -> tuple[str, ...]:
        """The names of the rounds, in order."""
        return ("total",)

    @property
    def descends(self) -> bool:
        """Whether each round goes down the pyramid again."""
        return False

    @classmethod
    def entry(cls) -> Any:
        return cls.leaf

    def node_memory(self, shape: Triple) -> int:
        """Peak bytes of a node whose box has this shape."""
        return self.memory(shape)

    def phase_memory(self, phase: Phase, shape: Triple) -> int:
        """Peak bytes of the largest node of a join or split, whose box has this shape."""
        return self.node_memory(shape)

    def node_effort(self, phase: Phase, shape: Triple, open_share: float) -> float:
        """The quantity that the time of a node grows with: the share of one of its children.

        Parameters
        ----------
        phase : Phase
            A join or a split.
        shape : (int, int, int)
            Shape of the child in voxels.
        open_share : float
            The share of the child's surface, 0 to 1, that borders on other blocks.
        """
        return float(self.node_memory(shape)) * (open_share if self.anchored else 1.0)

    def tree(self, round_name: str, grid: BlockGrid) -> tuple[BlockGrid, ...]:
        """The grids of a round, the blocks first; a parent has two blocks along each axis."""
        return pyramid(grid)

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        return tuple(self._phases(grid))

    def written_scales(self, grid: BlockGrid) -> set[int]:
        return {0}

    def _phases(self, grid: BlockGrid) -> Iterator[Phase]:
        previous = ""
        for name in self.rounds:
            grids = self.tree(name, grid)
            top = len(grids) - 1
            yield Phase(f"{name}.up.0", "leaf", grid, name, 0, None, top == 0, previous)
            for level in range(1, top + 1):
                here, below, root = grids[level], grids[level - 1], level == top
                yield Phase(f"{name}.up.{level}", "join", here, name, level, below, root, previous)
            if self.descends:
                for level in range(top, 0, -1):
                    here, below, root = grids[level], grids[level - 1], level == top
                    yield Phase(f"{name}.down.{level}", "split", here, name, level, below, root)
            previous = name
        if self.outputs:
            yield Phase("finish", "finish", grid, previous=previous)

    def leaf(
        self, block: Block, round_name: str, previous: PreviousRound | None, **inputs: np.ndarray
    ) -> Up:
        """The record of one block; `previous` is None in the first round."""
        raise TypeError(f"{type(self).__name__} has no leaf()")

    def neighbour_records(self, block: Block, round_name: str) -> Sequence[Triple]:
        """The neighbours whose part of the previous round a leaf receives in addition to its own.

        Each is an offset in blocks along z, y, x, such as (-1, 0, 0). Neighbours outside the grid
        (a trial runs a part of the volume) are left out.
        """
        return ()

    def base_round(self, round_name: str) -> str:
        """The earlier round whose retained columns a block receives, too; "" for none.

        For a round that changes few columns: the columns that it retains itself take precedence.
        """
        return ""

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        """The record of a node from those its children passed, in row-major order."""
        raise TypeError(f"{type(self).__name__} has no join()")

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        """The records that a node sends to its children; `received` is None at a root."""
        raise TypeError(f"{type(self).__name__} has no split()")

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        """The step's outputs of one block."""
        raise TypeError(f"{type(self).__name__} has no finish()")

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        """The step's result as JSON, from the records that the roots of the last round passed."""
        return {}


def pyramid(grid: BlockGrid, factor: Triple = (2, 2, 2)) -> tuple[BlockGrid, ...]:
    """The grid without its halo and the grids above it, up to a single block."""
    grids = [BlockGrid(grid.bounds, grid.shape)]
    while len(grids[-1]) > 1:
        counts = grids[-1].counts
        step = zyx([f if n > 1 else 1 for f, n in zip(factor, counts, strict=True)])
        grids.append(grids[-1].parent_grid(step))
    return tuple(grids)
