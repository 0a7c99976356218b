"""The `agglomeration` stage: a table of supervoxels and their segments, for proofreading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Group, Layer, Record
from volflow.segment.proofreading.parts import (
    FIRST,
    LAST,
    PAIR,
    PLACE,
    agglomeration,
    part_rows,
    pooled_parts,
)
from volflow.stages.row_costs import RowCosts
from volflow.stages.supervoxels import whole_volume
from volflow.stages.tabled import Tabled

COLUMNS = (
    *((name, "uint64") for name in PAIR),
    ("voxels", "int64"),
    *((name, "int64") for name in (*FIRST, *LAST, *PLACE)),
)


class Agglomeration(RowCosts, Tabled):
    """A table of all supervoxels, with the segment of each.

    The table does not depend on the blocks.

    Inputs
    ------
    supervoxels : uint64, (Z, Y, X)
        0 is background; see the stage `contacts`.
    segmentation : integers, (Z, Y, X)
        Segments; 0 is background.

    Outputs
    -------
    results/agglomeration.csv : table
        `supervoxel` and `segment`, the one that most of its voxels have; `voxels`; its half-open
        box, `z0`, `y0`, `x0` to `z1`, `y1`, `x1`; and `z`, `y`, `x`, its first voxel.
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    bytes_per_voxel: ClassVar[int] = 240  # measured: 226 where every voxel has a supervoxel
    voxels_per_partition: ClassVar[int] = 1 << 29
    voxels_per_row: ClassVar[int] = 1 << 9
    bytes_per_row: ClassVar[int] = 400
    wants: ClassVar[dict[str, Layer]] = {
        "supervoxels": Layer("uint64", 0, "segmentation"),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    def key(self, round_name: str) -> tuple[str, ...]:
        return PAIR[:1]

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return whole_volume(inputs)

    def rows(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, supervoxels: np.ndarray, segmentation: np.ndarray
    ) -> Record:
        return part_rows(block, supervoxels, segmentation)

    def combine(self, round_name: str, rows: Record) -> Record:
        return pooled_parts(rows)

    def group(self, round_name: str, rows: Record) -> Group:
        return Group(agglomeration(rows) if rows else {}, {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        table = self.table(partials)
        return {
            "supervoxels": len(table["supervoxel"]),
            "segments": len(np.unique(table["segment"][table["segment"] > 0])),
        }
