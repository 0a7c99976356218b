"""The `contacts` stage: a table of the contacts of supervoxels, for proofreading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Group, Layer, Record
from volflow.segment.proofreading.contacts import PAIR, PLACE, contact_rows, pooled_contacts
from volflow.stages.row_costs import RowCosts
from volflow.stages.supervoxels import whole_volume
from volflow.stages.tabled import Tabled
from volflow.stages.voxel_sized import VoxelSized

COLUMNS = (
    *((name, "uint64") for name in PAIR),
    ("affinity", "float64"),
    ("contact_voxels", "int64"),
    ("area_nm2", "float64"),
    *((name, "int64") for name in PLACE),
)


class Contacts(VoxelSized, RowCosts, Tabled):
    """A table of all pairs of supervoxels that touch, with the evidence for joining them.

    The table does not depend on the blocks. Give whole-volume supervoxels: the pieces of the stage
    `fragments` end at block faces, those that `relabel` writes at the highest threshold of
    `agglomerate` do not.

    Inputs
    ------
    supervoxels : uint64, (Z, Y, X)
        0 is background.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.

    Outputs
    -------
    results/contacts.csv : table
        `supervoxel_1` < `supervoxel_2`; `affinity`, the mean across the contact, 0 to 1;
        `contact_voxels`, its pairs of touching voxels; `area_nm2`; and `z`, `y`, `x`, the voxel
        where the affinity is highest.
    """

    columns: ClassVar[tuple[tuple[str, str], ...]] = COLUMNS
    on_all_sections: ClassVar[bool] = True
    bytes_per_voxel: ClassVar[int] = 240  # measured: 186 with supervoxels 4 voxels wide
    voxels_per_partition: ClassVar[int] = 1 << 28
    voxels_per_row: ClassVar[int] = 1 << 7
    bytes_per_row: ClassVar[int] = 400
    wants: ClassVar[dict[str, Layer]] = {
        "supervoxels": Layer("uint64", 0, "segmentation"),
        "affinity": Layer("uint8", 3, "affinity"),
    }

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    def key(self, round_name: str) -> tuple[str, ...]:
        return PAIR

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution) + whole_volume(inputs)

    def rows(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, supervoxels: np.ndarray, affinity: np.ndarray
    ) -> Record:
        return contact_rows(block, supervoxels, affinity)

    def combine(self, round_name: str, rows: Record) -> Record:
        return pooled_contacts(rows)

    def group(self, round_name: str, rows: Record) -> Group:
        if not rows:
            return Group({}, {})
        faces = [rows[f"faces_{axis}"] for axis in "zyx"]
        count: np.ndarray = np.sum(faces, axis=0)
        z, y, x = self.voxel_nm
        area = sum(number * side for number, side in zip(faces, (y * x, z * x, z * y), strict=True))
        table = {name: rows[name] for name in PAIR}
        table["affinity"] = rows["affinity_sum"] / (255 * count)
        table["contact_voxels"] = count
        table["area_nm2"] = np.asarray(area, float)
        return Group(table | {name: rows[name] for name in PLACE}, {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        return {"contacts": sum(len(part[PAIR[0]]) for part in partials["total"] if part)}
