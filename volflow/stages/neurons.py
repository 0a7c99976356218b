"""The `neurons` stage: a table of segments, and their properties for Neuroglancer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block
from volflow.core.stage import Columns, Group, Layer, Record, Table
from volflow.shape.neuron_rows import (
    NEURONS,
    neuron_rows,
    neuron_table,
    pooled_neurons,
    segment_properties,
)
from volflow.stages.row_costs import RowCosts
from volflow.stages.tabled import Tabled
from volflow.stages.voxel_sized import VoxelSized


class Neurons(VoxelSized, RowCosts, Tabled):
    """A table of the segments of `segmentation`: size, box, numbers of synapses and objects.

    The same numbers become properties of segments in Neuroglancer, where segments can be listed,
    sorted and selected by them. The table does not depend on the blocks.

    Inputs
    ------
    segmentation : integers, (Z, Y, X)
        Neurons; 0 is background.
    synapse_table : table, optional
        Of the stage `synapses`, or with columns `pre` and `post`.
    object_table : table, optional
        Of the stage `object_table`, or with a column `segment`.

    Outputs
    -------
    neuron_table : table of the whole volume
        One row per segment; stored as `results/neurons.csv` (the name of the step).
    results/neurons/segment_properties : properties
        For Neuroglancer. They are also added to the `info` of a segmentation that the run wrote.
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = NEURONS
    on_all_sections: ClassVar[bool] = True
    bytes_per_voxel: ClassVar[int] = 160
    voxels_per_row: ClassVar[int] = 1 << 9
    bytes_per_row: ClassVar[int] = 500
    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "synapse_table": Layer(kind="table"),
        "object_table": Layer(kind="table"),
    }

    most_properties: Annotated[int, Field(ge=0, le=1_000_000)] = 100_000
    """Largest number of segments with properties, up to a million: those with synapses or objects
    first, then the largest. A browser loads all of them at once. 0: no properties."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"neuron_table": Table(NEURONS)}

    @property
    def properties_of(self) -> str:
        return "segmentation" if self.most_properties else ""

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("segment",)

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        needed = {"synapse_table": ("pre", "post"), "object_table": ("segment",)}
        return [
            f"{table}: expected a column of segments '{column}', got the columns "
            f"{', '.join(dict(tables[table].dtypes))}"
            for table, columns in needed.items()
            for column in columns
            if table in tables and column not in dict(tables[table].dtypes)
        ]

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        segmentation: np.ndarray,
        synapse_table: Record | None = None,
        object_table: Record | None = None,
    ) -> Record:
        return neuron_rows(block.write, segmentation, synapse_table, object_table)

    def combine(self, round_name: str, rows: Record) -> Record:
        return pooled_neurons(rows)

    def group(self, round_name: str, rows: Record) -> Group:
        if not rows:
            return Group({"unknown": np.zeros(1, np.int64)}, {})
        unknown = np.array([(rows["voxels"] == 0).sum()], np.int64)
        return Group({**neuron_table(rows, self.voxel_nm), "unknown": unknown}, {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        table = self.table(partials)
        unknown = sum(int(part["unknown"][0]) for part in partials["total"])
        left = max(0, len(table["segment"]) - self.most_properties)
        return {
            "segments": len(table["segment"]),
            "without_properties": left,
            "unknown_segments": unknown,
        }

    def segment_properties(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        return segment_properties(self.table(partials), self.most_properties)[0]

    def warnings(self, result: Mapping[str, Any]) -> list[str]:
        unknown, left = result["unknown_segments"], result["without_properties"]
        sentences = []
        if unknown:
            sentences.append(
                f"{unknown:,} segments of the tables have no voxel of segmentation in the bounds; "
                f"do they belong to another segmentation?"
            )
        if left and self.most_properties:
            sentences.append(
                f"{left:,} of {result['segments']:,} segments have no properties in Neuroglancer, "
                f"the smallest without synapses and objects (most_properties: "
                f"{self.most_properties:,})"
            )
        return sentences
