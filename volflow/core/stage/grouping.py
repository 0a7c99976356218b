"""A grouping: rows of all blocks, brought together by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.fragmented_mesh import FragmentedMesh
from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.skeleton import Skeleton
from volflow.core.stage.layer import ObjectsById, Record
from volflow.core.stage.phase import Phase
from volflow.core.stage.stage import Stage

ObjectById: TypeAlias = Skeleton | FragmentedMesh

BLOCKS_PER_GATHER: Triple = (8, 8, 8)  # their rows are combined before they are sent to partitions


class Group(NamedTuple):
    """The output of one partition of a round.

    Attributes
    ----------
    partial : Record
        The partition's contribution to the step's result.
    rows : Record
        Rows for the next round; empty in the last one.
    objects : sequence of Skeleton or FragmentedMesh
        In the last round, the objects of a stage that declares them (`Grouping.by_id`); the name
        of each is one of the keys of the partition.
    annotations : AnnotationSet, optional
        In the last round, the annotations of a stage that declares them (`Grouping.annotates`).
    """

    partial: Record
    rows: Record
    objects: Sequence[ObjectById] = ()
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

    Rows may come from several scales (`zooms`), each with blocks of the same number of voxels; they
    are gathered together.

    A grouping may leave objects by id (`by_id`). The partitions of its last round are the shards
    that the objects are stored in: the key is one column, the id, and each partition writes a whole
    shard.
    """

    blocks_per_gather: ClassVar[Triple] = BLOCKS_PER_GATHER
    fine_part: ClassVar[Triple] = (128, 128, 128)
    """Voxels of the volume that are read at once for a coarser scale."""

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

    def zooms(self, bounds: Box) -> tuple[Triple, ...]:
        """Voxels of the volume per voxel of each scale that rows come from, the finest first.

        Each is a multiple of the one before. For a scale other than (1, 1, 1), `coarser` makes the
        inputs and `rows_at` the rows.
        """
        return ((1, 1, 1),)

    @property
    def writes_parquet(self) -> bool:
        """Whether the table is also written as Parquet, a file for each partition."""
        return False

    @property
    def properties_of(self) -> str:
        """The segmentation among the inputs that `segment_properties` describes; "": none."""
        return ""

    def segment_properties(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        """Neuroglancer's properties of segments as JSON, for a stage with `properties_of`."""
        return {}

    def group_memory(self, bounds: Box) -> int:
        """Peak bytes of one partition."""
        return self.memory(bounds.shape) // self.partitions(bounds)

    def node_memory(self, shape: Triple) -> int:
        """Peak bytes of gathering the rows of a box of this shape."""
        return self.memory(shape)

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        first, *later = self.rounds
        senders = tuple(
            self._rows_phase(grid, level, zoom)
            for level, zoom in enumerate(self.zooms(grid.bounds))
        )
        finest = senders[0].grid
        blocks = BlockGrid(finest.bounds, finest.shape)
        gathered = blocks.parent_grid(self.blocks_per_gather)
        parts = BlockGrid(Box((0, 0, 0), (self.partitions(grid.bounds), 1, 1)), (1, 1, 1))
        phases = [
            *senders,
            Phase("gather", "gather", gathered, first, below=blocks, senders=senders),
            Phase(f"{first}.group", "group", parts, first, below=gathered, root=not later),
        ]
        for number, name in enumerate(later, 1):
            last = number == len(later)
            phases.append(Phase(f"{name}.group", "group", parts, name, number, parts, last))
        return tuple(phases)

    def _rows_phase(self, grid: BlockGrid, level: int, zoom: Triple) -> Phase:
        """The phase of the rows of a scale; its blocks have the shape of those of the step."""
        name = f"rows.{level}" if level else "rows"
        first = self.rounds[0]
        if zoom == (1, 1, 1):
            return Phase(name, "rows", grid, first, level)
        coarse = BlockGrid(grid.bounds.zoom_out(zoom), grid.shape, grid.halo)
        z, y, x = zyx(self.fine_part) // zoom
        part = zyx((z, y, x)).maximum(1)
        return Phase(
            name, "rows", coarse, first, level, zoom=zoom, fine_bounds=grid.bounds, part=part
        )

    def rows(self, block: Block, **inputs: np.ndarray) -> Record:
        """The rows of one block; a block without rows has empty columns or no columns.

        A column may hold bytes: an object array, all of whose items are `bytes`.
        """
        raise TypeError(f"{type(self).__name__} has no rows()")

    def rows_at(self, phase: Phase, block: Block, **inputs: np.ndarray) -> Record:
        """The rows of one block at the scale of a phase; `block` is in voxels of that scale."""
        return self.rows(block, **inputs)

    def coarser(self, block: Block, zoom: Triple, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs at a coarser scale, from those over the read box of a block.

        Parameters
        ----------
        block : Block
            In voxels of the volume. Its read box begins and ends at multiples of `zoom`, and may
            reach beyond `block.bounds`, where inputs are arbitrary.
        zoom : (int, int, int)
            Voxels of the volume per voxel of the scale.
        inputs : arrays
            Over the read box.
        """
        raise TypeError(f"{type(self).__name__} has no coarser()")

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
