"""The `synapses` stage: a table of synapses with their pre- and postsynaptic neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import SUM, Columns, Group, Layer, Record, Table
from volflow.segment.synapses.pairing import (
    COLUMNS,
    TABLE,
    cleft_table,
    concatenated_tables,
    merge_duplicates,
    synapse_table,
)
from volflow.segment.synapses.rows import pooled_rows, reach_voxels, synapse_rows
from volflow.stages.row_costs import RowCosts
from volflow.stages.tabled import DECIMALS, Tabled
from volflow.stages.voxel_sized import VoxelSized

Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Channel = Annotated[int, Field(ge=0)]


class Synapses(VoxelSized, RowCosts, Tabled):
    """A table of synapses: `clefts` with the neurons of `segmentation` on both sides of each.

    For each neuron, presynaptic and postsynaptic probability is summed over its voxels within
    `reach_nm` of a cleft; the partners of the cleft are the two neurons with the largest sums.
    Without a `segmentation`, the table lists clefts only, with 0 for neurons. The table does not
    depend on the blocks.

    Inputs
    ------
    clefts : integers, (Z, Y, X)
        Synaptic clefts, a label each; 0 is background.
    probability : uint8, (C, Z, Y, X)
        `round(255 p)` of being part of a cleft, presynaptic and postsynaptic; see `channels`.
    segmentation : integers, (Z, Y, X), optional
        Neurons; 0 is background.

    Outputs
    -------
    synapse_table : table of the whole volume
        One row per synapse: ids of the neurons, positions in nm, sizes and scores; stored as
        `results/synapses.csv` (the name of the step).

    References
    ----------
    Turner et al. 2020 (partners) and Buhmann et al. 2021 (duplicates); see
    `segment/synapses/pairing.py`.
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    on_all_sections: ClassVar[bool] = True
    bytes_per_voxel: ClassVar[int] = 88  # measured: 81
    voxels_per_row: ClassVar[int] = 1 << 11  # measured with unrealistically dense synapses: 3100
    bytes_per_row: ClassVar[int] = 640
    wants: ClassVar[dict[str, Layer]] = {
        "clefts": Layer(kind="segmentation", channels=0),
        "probability": Layer("uint8"),
        "segmentation": Layer(kind="segmentation", channels=0),
    }

    channels: tuple[Channel, Channel, Channel] = (0, 1, 2)
    """Channels of `probability`, from 0, for clefts, presynaptic and postsynaptic voxels."""
    reach_nm: Side = 100.0
    """Largest distance in nanometres from a cleft at which a voxel counts for a partner."""
    least: Annotated[float, Field(gt=0), SUM] = 1.0
    """Smallest sum of probabilities of a partner, in voxels: 1 is one voxel of probability 1; or in
    units."""
    polyadic: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share, up to 1, of a cleft's postsynaptic probability at which a neuron is a postsynaptic
    partner; None: only the neuron with the largest share."""
    merge_nm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 500.0
    """Largest distance in nanometres between the centres of two clefts of the same two neurons that
    are merged into one synapse; 0: none are merged."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"synapse_table": Table(COLUMNS)}

    @property
    def halo(self) -> Triple:
        return reach_voxels(self.reach_nm, self.voxel_nm)

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("cleft", "pair")

    def key(self, round_name: str) -> tuple[str, ...]:
        return ("cleft",) if round_name == "cleft" else ("pre", "post")

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        problems = self.resolution_problems(resolution)
        layer = inputs.get("probability")
        if layer is not None and layer.channels is not None:
            count = max(1, layer.channels)
            if max(self.channels) >= count:
                problems.append(
                    f"channels: expected three channels of probability, 0 to {count - 1}; "
                    f"got {list(self.channels)}"
                )
        return problems

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        clefts: np.ndarray,
        probability: np.ndarray,
        segmentation: np.ndarray | None = None,
    ) -> Record:
        rows = synapse_rows(
            block,
            clefts,
            probability[list(self.channels)],
            segmentation,
            resolution=self.voxel_nm,
            reach_nm=self.reach_nm,
        )
        known = np.full(len(rows["cleft"]), segmentation is not None, np.int64)
        return {**rows, "neurons": known}

    def combine(self, round_name: str, rows: Record) -> Record:
        if round_name == "cleft":
            pooled = pooled_rows(rows)
            return {**pooled, "neurons": rows["neurons"][: len(pooled["cleft"])]}
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
            table = cleft_table(
                {name: column[whole] for name, column in rows.items()}, self.voxel_nm
            )
            return Group(counted, table)
        table, unpaired = synapse_table(rows, self.voxel_nm, self.least, self.polyadic)
        counted["alone"] = np.array([unpaired], np.int64)
        return Group(counted, {name: table[name] for name in TABLE})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        first = [part for part in partials["cleft"] if part]
        last = [part for part in partials["pair"] if part]
        clefts = sum(int(part["clefts"][0]) for part in first)
        if not all("alone" in part for part in first):
            return {"clefts": clefts}
        return {
            "clefts": clefts,
            "synapses": sum(len(part["clefts"]) for part in last),
            "without_partners": sum(int(part["alone"][0]) for part in first),
            "merged": sum(int(part["clefts"].sum()) - len(part["clefts"]) for part in last),
        }

    def table(self, partials: Mapping[str, Sequence[Record]]) -> Record:
        empty = {name: np.zeros(0, dtype) for name, dtype in COLUMNS}
        parts = [part for part in partials["pair"] if part]
        table = concatenated_tables(parts) if parts else empty
        return {
            name: column.round(DECIMALS) if column.dtype.kind == "f" else column
            for name, column in table.items()
        }
