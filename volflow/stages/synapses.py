"""The stage that tells who synapses on whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Group, Grouping, Layer, Record
from volflow.segment.synapses.pairing import (
    TABLE,
    clefts_of,
    joined_tables,
    merge_duplicates,
    synapses_of,
)
from volflow.segment.synapses.rows import pooled, reach_voxels, synapse_rows

BYTES_PER_VOXEL = 88  # measured: 81, with what was read
MOST_PARTITIONS = 1024
VOXELS_PER_PARTITION = 1 << 30
VOXELS_PER_ROW = 1 << 11  # at the least; measured where synapses are too dense: 3100
BYTES_PER_ROW = 640
DECIMALS = 3  # of positions, areas and scores in the table

Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Channel = Annotated[int, Field(ge=0)]


class Synapses(Grouping):
    """A table of synapses: `clefts` and the neurons of `segmentation` on both sides of each.

    Each neuron is given what `probability` has of presynaptic and of postsynaptic voxels in it
    within `reach_nm` of a cleft; the cleft's partners are the two neurons with most. Without a
    `segmentation` the table is of clefts alone, neurons 0. The run leaves it as
    `results/synapses.csv`, the same whatever the blocks.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "clefts": Layer(kind="segmentation", channels=0),
        "probability": Layer("uint8"),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    resolution: tuple[Side, Side, Side]
    """Nanometres per voxel z y x, as the volumes have it."""
    channels: tuple[Channel, Channel, Channel] = (0, 1, 2)
    """The channels of `probability` that tell of clefts, presynaptic and postsynaptic voxels."""
    reach_nm: Side = 100.0
    """How far from a cleft a voxel may be that speaks for a partner."""
    least: Annotated[float, Field(gt=0)] = 1.0
    """Voxels: what the probabilities of a partner sum up to at the least."""
    polyadic: Annotated[float, Field(gt=0, le=1)] | None = None
    """Every neuron with this share of a cleft's postsynaptic probability is a partner of it;
    None: only the one with most."""
    merge_nm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 500.0
    """Clefts between the same two neurons with middles within this are one synapse; 0: none."""

    @property
    def halo(self) -> Triple:
        return reach_voxels(self.reach_nm, self.resolution)

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("cleft", "pair")

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("cleft",) if round_name == "cleft" else ("pre", "post")

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
        wrong = []
        if not np.allclose(self.resolution, resolution, rtol=1e-3, atol=0):
            wrong.append(
                f"resolution: expected that of the run, {list(resolution)} nm (z, y, x); "
                f"got {list(self.resolution)}"
            )
        layer = inputs.get("probability")
        if layer is not None and layer.channels is not None:
            there = max(1, layer.channels)
            if max(self.channels) >= there:
                wrong.append(
                    f"channels: expected three of the {there} channels of probability, from 0 on; "
                    f"got {list(self.channels)}"
                )
        return wrong

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        clefts: np.ndarray,
        probability: np.ndarray,
        segmentation: np.ndarray | None = None,
    ) -> Record:
        place = self.resolution, self.reach_nm
        found = synapse_rows(block, clefts, probability[list(self.channels)], segmentation, *place)
        known = np.full(len(found["cleft"]), segmentation is not None, np.int64)
        return {**found, "neurons": known}

    def combine(self, round_name: str, rows: Record) -> Record:
        if round_name == "cleft":
            found = pooled(rows)
            return {**found, "neurons": rows["neurons"][: len(found["cleft"])]}
        order = np.lexsort((rows["synapse_id"], rows["post"], rows["pre"]))
        return {name: column[order] for name, column in rows.items()}

    def group(self, round_name: str, rows: Record) -> Group:
        if round_name == "pair":
            merge = rows and (rows["pre"] > 0).any()  # clefts alone have no neurons
            return Group(merge_duplicates(rows, self.merge_nm) if merge else rows, {})
        if not rows:
            return Group({}, {})
        whole = rows["segment"] == 0
        counted = {"clefts": np.array([whole.sum()], np.int64)}
        if not rows["neurons"].all():
            table = clefts_of(
                {name: column[whole] for name, column in rows.items()}, self.resolution
            )
            return Group(counted, table)
        table, alone = synapses_of(rows, self.resolution, self.least, self.polyadic)
        counted["alone"] = np.array([alone], np.int64)
        return Group(counted, {name: table[name] for name in TABLE})

    def result(self, found: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        first = [part for part in found["cleft"] if part]
        last = [part for part in found["pair"] if part]
        clefts = sum(int(part["clefts"][0]) for part in first)
        if not all("alone" in part for part in first):
            return {"clefts": clefts}
        return {
            "clefts": clefts,
            "synapses": sum(len(part["clefts"]) for part in last),
            "without_partners": sum(int(part["alone"][0]) for part in first),
            "merged": sum(int(part["clefts"].sum()) - len(part["clefts"]) for part in last),
        }

    def table(self, found: Mapping[str, Sequence[Record]]) -> Record:
        empty = {name: np.zeros(0, np.int64) for name in TABLE}
        parts = [part for part in found["pair"] if part]
        table = joined_tables(parts) if parts else empty
        return {
            name: column.round(DECIMALS) if column.dtype.kind == "f" else column
            for name, column in table.items()
        }
