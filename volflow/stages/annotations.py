"""The `annotations` stage: rows of a table as lines or points for Neuroglancer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from volflow.core.annotations import PROPERTY_NAME
from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Group, Grouping, Layer, Phase, Record
from volflow.shape.annotated_rows import (
    annotated_rows,
    annotation_set,
    column_problems,
    sorted_rows,
)
from volflow.stages.voxel_sized import VoxelSized

BYTES_PER_ROW = 900  # measured: 700 with five properties and two relations
VOXELS_PER_ROW = 1 << 17  # upper bound of the density: neuropil of a fly has a synapse in 2^18

SegmentId = Annotated[int, Field(ge=1, lt=1 << 64)]


class Annotations(VoxelSized, Grouping):
    """Annotations from a `table`: lines from pre- to postsynaptic sites, or points.

    Neuroglancer shows them as a layer in which each belongs to the segments in its row: only those
    of chosen neurons can be shown. They have a spatial index with several levels, so millions can
    be displayed. The files depend neither on the blocks nor on the order of the rows.

    Columns of the table are identified by name. Lines lead from `pre_z`, `pre_y`, `pre_x` to
    `post_z`, `post_y`, `post_x`; points are at `z`, `y`, `x` or else `cleft_z`, `cleft_y`,
    `cleft_x`; all in nanometres. Ids are those of the first column among `synapse_id`, `object_id`
    and `id` if each occurs once, and else the numbers of the rows in the order of their content.

    Inputs
    ------
    table : table
        Of the stage `synapses` or `object_table`, or CSV or Parquet of your own.

    Outputs
    -------
    results/annotations/precomputed : annotations
        For Neuroglancer, in shards. (The folder has the name of the step.)
    """

    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"table": Layer(kind="table")}

    kind: Literal["line", "point"] = "line"
    """Lines or points."""
    properties: tuple[str, ...] | None = None
    """Columns of numbers that Neuroglancer shows and can colour by, stored as float32; default:
    those of score, pre_score, post_score, size_vox, area_nm2, share that the table has."""
    relations: tuple[str, ...] | None = None
    """Columns of segments that an annotation belongs to; default: those of pre, post, pre_neuron,
    post_neuron, segment that the table has."""
    segments: tuple[SegmentId, ...] | None = None
    """Segments whose annotations are written; default: all. One without any is reported in the
    end."""

    @property
    def annotates(self) -> bool:
        return True

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        """Those of a grouping with a single block, as rows have none."""
        return super().phases(BlockGrid(grid.bounds, grid.bounds.shape))

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("id",)

    def memory(self, shape: Triple) -> int:
        return (64 << 20) + BYTES_PER_ROW * math.prod(shape) // VOXELS_PER_ROW

    def check(self, grid: BlockGrid) -> list[str]:
        given = {"properties": self.properties or (), "relations": self.relations or ()}
        return [
            f"{place}: column '{name}': expected letters, digits and _, the first one small, as "
            f"Neuroglancer does"
            for place, names in given.items()
            for name in names
            if not PROPERTY_NAME.fullmatch(name)
        ]

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        if "table" not in tables:
            return []
        dtypes = dict(tables["table"].dtypes)
        return column_problems(dtypes, self.kind, self.properties, self.relations)

    def rows(self, block: Block, *, table: Record) -> Record:  # type: ignore[override]
        chosen = (self.properties, self.relations, self.segments)
        return annotated_rows(table, self.kind, self.voxel_nm, *chosen)

    def combine(self, round_name: str, rows: Record) -> Record:
        return sorted_rows(rows)

    def group(self, round_name: str, rows: Record) -> Group:
        annotations = annotation_set(rows, self.kind, self.voxel_nm)
        related = list(annotations.relationships.values()) or [np.zeros(0, np.uint64)]
        asked = np.array(self.segments or (), np.uint64)
        seen = asked[np.isin(asked, np.concatenate(related))]
        count = np.array([len(annotations)], np.int64)
        return Group({"count": count, "seen": seen}, {}, annotations=annotations)

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        (part,) = partials["total"]
        unknown = sorted(set(self.segments or ()) - set(part["seen"].tolist()))
        return {"annotations": int(part["count"][0]), "unknown_segments": unknown}

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        unknown = result["unknown_segments"]
        if not unknown:
            return []
        names = ", ".join(str(segment) for segment in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        return [f"segments: expected segments of the table; {names}{more} are in no row"]
