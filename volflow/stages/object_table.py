"""The `object_table` stage: a table of objects, and the neuron that each is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Columns, Group, Layer, Record, Table
from volflow.shape.object_rows import OBJECTS, object_rows, object_table, pooled
from volflow.stages.row_costs import RowCosts
from volflow.stages.tabled import Tabled
from volflow.stages.voxel_sized import VoxelSized


class ObjectTable(VoxelSized, RowCosts, Tabled):
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
    bytes_per_voxel: ClassVar[int] = 96
    voxels_per_row: ClassVar[int] = 1 << 11
    bytes_per_row: ClassVar[int] = 400
    wants: ClassVar[dict[str, Layer]] = {
        "objects": Layer(kind="segmentation", channels=0),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"object_table": Table(OBJECTS)}

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("object",)

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
