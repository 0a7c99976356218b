"""The `object_table` stage: a table of objects, and the neuron that each is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Columns, Group, Layer, Record, Table
from volflow.shape.object_rows import OBJECTS, object_rows, object_table, pooled
from volflow.stages.tabled import Tabled
from volflow.stages.voxel_sized import VoxelSized

MOST_PARTITIONS = 1024
VOXELS_PER_PARTITION = 1 << 30
BYTES_PER_VOXEL = 96
BYTES_PER_ROW, VOXELS_PER_ROW = 400, 1 << 11


class ObjectTable(VoxelSized, Tabled):
    """A table of the `objects` of a volume, and the neuron of `segmentation` that each is in.

    An object is in the segment with most of its voxels. The table does not depend on the blocks.

    Inputs
    ------
    objects : integers, (Z, Y, X)
        Mitochondria, clefts, nuclei ..., a label each; 0 is background.
    segmentation : integers, (Z, Y, X), optional
        Neurons; 0 is background.

    Outputs
    -------
    object_table : table of the whole volume
        One row per object: its id and segment, middle in nm, size, share of it in the segment and
        box; stored as `results/object_table.csv` (the name of the step).
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = OBJECTS
    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "objects": Layer(kind="segmentation", channels=0),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"object_table": Table(OBJECTS)}

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("object",)

    def partitions(self, bounds: Box) -> int:
        return max(1, min(MOST_PARTITIONS, -(-bounds.size // VOXELS_PER_PARTITION)))

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * math.prod(shape)

    def node_memory(self, shape: Triple) -> int:
        return (16 << 20) + BYTES_PER_ROW * math.prod(shape) // VOXELS_PER_ROW

    def group_memory(self, bounds: Box) -> int:
        return (16 << 20) + BYTES_PER_ROW * bounds.size // VOXELS_PER_ROW // self.partitions(bounds)

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

    def rows(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, objects: np.ndarray, segmentation: np.ndarray | None = None
    ) -> Record:
        return object_rows(block.write, objects, segmentation)

    def combine(self, round_name: str, rows: Record) -> Record:
        return pooled(rows, ("object", "segment"))

    def group(self, round_name: str, rows: Record) -> Group:
        return Group(object_table(rows, self.voxel_nm) if rows else {}, {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        segments = self.table(partials)["segment"]
        return {"objects": len(segments), "in_segments": int((segments > 0).sum())}
