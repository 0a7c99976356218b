"""The `edges` stage: the connectome, a row for each two connected neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.stage import Columns, Group, Layer, Phase, Record, Table
from volflow.shape.edge_rows import EDGES, edge_rows, edge_table
from volflow.stages.tabled import Tabled

BYTES_PER_ROW = 300
VOXELS_PER_ROW = 1 << 17  # as for annotations


class Edges(Tabled):
    """The connectome as edges: each two neurons that synapses of `synapse_table` connect.

    Synapses without a neuron on one side are left out.

    Inputs
    ------
    synapse_table : table
        Of the stage `synapses`, or with columns `pre` and `post` and, optionally, `size_vox`,
        `area_nm2` and `score`.

    Outputs
    -------
    edge_table : table of the whole volume
        One row per pair of neurons and direction: number of synapses, sums of sizes and areas, mean
        score; stored as `results/edges.csv` (the name of the step).
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = EDGES
    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"synapse_table": Layer(kind="table")}

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"edge_table": Table(EDGES)}

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        """Those of a grouping with a single block, as rows have none."""
        return super().phases(BlockGrid(grid.bounds, grid.bounds.shape))

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("pre", "post")

    def memory(self, shape: Triple) -> int:
        return (64 << 20) + BYTES_PER_ROW * math.prod(shape) // VOXELS_PER_ROW

    def group_memory(self, bounds: Box) -> int:
        return self.memory(bounds.shape)

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        dtypes = dict(tables["synapse_table"].dtypes) if "synapse_table" in tables else None
        return [
            f"synapse_table: expected a column of neurons '{name}', got the columns "
            f"{', '.join(dtypes)}"
            for name in ("pre", "post")
            if dtypes is not None and name not in dtypes
        ]

    def rows(self, block: Block, *, synapse_table: Record) -> Record:  # type: ignore[override]
        return edge_rows(synapse_table)

    def group(self, round_name: str, rows: Record) -> Group:
        return Group(edge_table(rows), {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        table = self.table(partials)
        neurons = {*table["pre"].tolist(), *table["post"].tolist()}
        return {
            "edges": len(table["pre"]),
            "neurons": len(neurons),
            "synapses": int(table["synapses"].sum()),
        }
