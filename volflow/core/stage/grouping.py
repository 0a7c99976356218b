"""A grouping: rows of all blocks, brought together by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.skeleton import Skeleton
from volflow.core.stage.layer import ObjectsById, Record
from volflow.core.stage.phase import Phase
from volflow.core.stage.stage import Stage

BLOCKS_PER_GATHER: Triple = (8, 8, 8)  # their rows are combined before they are sent to partitions


class Group(NamedTuple):
    """The output of one partition of a round.

    Attributes
    ----------
    partial : Record
        The partition's contribution to the step's result.
    rows : Record
        Rows for the next round; empty in the last one.
    objects : sequence of Skeleton
        In the last round, the objects of a stage that declares them (`Grouping.by_id`); the name
        of each is one of the keys of the partition.
    annotations : AnnotationSet, optional
        In the last round, the annotations of a stage that declares them (`Grouping.annotates`).
    """

    partial: Record
    rows: Record
    objects: Sequence[Skeleton] = ()
    annotations: AnnotationSet | None = None


class Grouping(Stage):
    """Rows of every block, brought together by key, in one or more rounds.

    Each block produces rows (`rows`: columns of equal length); the rows of adjacent blocks are
    gathered and combined (`combine`), then distributed by a hash of the columns in `key`. A
    partition holds all rows of its keys and no others: `group` computes from them a partial result
    and the rows of the next round, which are distributed again. In the end `result` combines the
    partial results of all partitions.

        blocks      [0][1][2][3]     rows
        gather      [  0-3  ][ ... ] combined, distributed by the first round's key
        group       <p0> <p1> <p2>   all rows of a key in one place; distributed by the next key
        group       <p0> <p1> <p2>

    A grouping may leave objects by id (`by_id`). The partitions of its last round are the shards
    that the objects are stored in: the key is one column, the id, and each partition writes a whole
    shard.
    """

    @property
    def rounds(self) -> tuple[str, ...]:
        """The names of the rounds, in order."""
        return ("total",)

    @classmethod
    def entry(cls) -> Any:
        return cls.rows

    def key(self, round_name: str) -> tuple[str, ...]:
        """The integer columns whose equal values bring rows of a round together."""
        raise TypeError(f"{type(self).__name__} has no key()")

    def partitions(self, bounds: Box) -> int:
        """The number of partitions of a round; depends on the volume, never on its blocks.

        A power of two in a stage with objects by id.
        """
        return 1

    @property
    def by_id(self) -> ObjectsById | None:
        """The objects by id that the partitions of the last round leave; None: none."""
        return None

    @property
    def annotates(self) -> bool:
        """Whether the only partition of the only round leaves annotations."""
        return False

    def group_memory(self, bounds: Box) -> int:
        """Peak bytes of one partition."""
        return self.memory(bounds.shape) // self.partitions(bounds)

    def node_memory(self, shape: Triple) -> int:
        """Peak bytes of gathering the rows of a box of this shape."""
        return self.memory(shape)

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        first, *later = self.rounds
        blocks = BlockGrid(grid.bounds, grid.shape)
        gathered = blocks.parent_grid(BLOCKS_PER_GATHER)
        parts = BlockGrid(Box((0, 0, 0), (self.partitions(grid.bounds), 1, 1)), (1, 1, 1))
        phases = [
            Phase("rows", "rows", grid, first),
            Phase("gather", "gather", gathered, first, below=blocks),
            Phase(f"{first}.group", "group", parts, first, below=gathered, root=not later),
        ]
        for number, name in enumerate(later, 1):
            last = number == len(later)
            phases.append(Phase(f"{name}.group", "group", parts, name, number, parts, last))
        return tuple(phases)

    def rows(self, block: Block, **inputs: np.ndarray) -> Record:
        """The rows of one block; a block without rows has empty columns or no columns."""
        raise TypeError(f"{type(self).__name__} has no rows()")

    def combine(self, round_name: str, rows: Record) -> Record:
        """Fewer rows from those of several blocks or partitions.

        The order of the result depends only on the rows, not on the order in which they came.
        """
        return rows

    def group(self, round_name: str, rows: Record) -> Group:
        """The output of a partition from its combined rows, which may have no columns."""
        raise TypeError(f"{type(self).__name__} has no group()")

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        """The step's result as JSON, from the partial results of each round's partitions."""
        return {}

    def table(self, partials: Mapping[str, Sequence[Record]]) -> Record:
        """The columns of the table `results/STEP.csv` of the run; no table if empty."""
        return {}
