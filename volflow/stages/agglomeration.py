"""The `agglomeration` stage: a table of supervoxels and their segments, for proofreading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Box, Triple
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
from volflow.stages.supervoxels import whole_volume
from volflow.stages.tabled import Tabled

BYTES_PER_VOXEL = 240  # measured: 226, inputs included, where every voxel has a supervoxel
VOXELS_PER_PARTITION = 1 << 29
VOXELS_PER_ROW = 1 << 9
BYTES_PER_ROW = 400
MOST_PARTITIONS = 1024
COLUMNS = (
    *((name, "uint64") for name in PAIR),
    ("voxels", "int64"),
    *((name, "int64") for name in (*FIRST, *LAST, *PLACE)),
)


class Agglomeration(Tabled):
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
    wants: ClassVar[dict[str, Layer]] = {
        "supervoxels": Layer("uint64", 0, "segmentation"),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    def key(self, round_name: str) -> tuple[str, ...]:
        return PAIR[:1]

    def partitions(self, bounds: Box) -> int:
        return max(1, min(MOST_PARTITIONS, -(-bounds.size // VOXELS_PER_PARTITION)))

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return (16 << 20) + BYTES_PER_ROW * int(np.prod(shape)) // VOXELS_PER_ROW

    def group_memory(self, bounds: Box) -> int:
        part = bounds.size // self.partitions(bounds)
        return (16 << 20) + BYTES_PER_ROW * part // VOXELS_PER_ROW

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
