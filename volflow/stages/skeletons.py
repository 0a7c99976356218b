"""The `skeletons` stage: centrelines of whole segments, independently of the blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage import SIZE, Group, Layer, ObjectsById, Record
from volflow.shape.runs import (
    block_runs,
    centre_of,
    factor_of,
    merged_runs,
    of_nuclei,
    segments_of,
    with_nuclei,
)
from volflow.shape.skeleton_table import TABLE, lattice_side, skeleton_table, table_row
from volflow.shape.skeletonize import (
    BYTES_PER_VOXEL,
    CONSTANT_NM,
    ROUNDS,
    SCALE,
    SkeletonOptions,
    missing_library,
    segment_skeleton,
    within_budget,
)
from volflow.shape.soma import with_soma
from volflow.stages.of_segments import OfSegments, shards
from volflow.stages.voxel_sized import VoxelSized

VOXELS_PER_PARTITION = 1 << 30
VOXELS_PER_RUN = 12  # voxels of the volume; measured with a dense segmentation: 22
BYTES_PER_RUN = 240  # six columns, their copies while they are sorted and merged
LARGEST_POOL = 1 << 18  # voxels per coarse voxel

SegmentId = Annotated[int, Field(ge=1, lt=1 << 64)]


class Skeletons(VoxelSized, OfSegments):
    """Skeletons of the segments of `labels`: centrelines as trees of nodes with radii.

    Each segment is brought together as a whole, on a lattice of voxels about `lattice_nm` wide, and
    skeletonized by TEASAR. A segment whose bounding box has more than `budget` voxels there is
    skeletonized on a coarser lattice, then in tiles. Lattice and tiles begin at voxel 0 of the
    volume, so the skeletons do not depend on the blocks. A segment in one piece has one tree. Needs
    bioimage-cpp: `pip install '.[skeletons]'`.

    Inputs
    ------
    labels : integers, (Z, Y, X)
        Segments; 0 is background.
    nuclei : integers, (Z, Y, X), optional
        Not 0 in nuclei: the cell body of a segment is around its nucleus, not where it is thickest.

    Outputs
    -------
    results/skeletons/precomputed : skeletons
        For Neuroglancer, by the id of the segment. (The folder has the name of the step.)
    results/skeletons/swc : files
        With `swc`, a file `ID.swc` for each segment: x, y, z and radius in nanometres.
    results/skeletons.csv : table
        One row per skeleton: segment, voxels, trees, nodes, branches, tips, length and radius in
        nm, the side of a voxel in nm on which it was computed, and whether in tiles.

    References
    ----------
    Sato et al., TEASAR, Pacific Graphics 2000; see `shape/skeletonize.py`.
    """

    on_all_sections: ClassVar[bool] = True
    row_columns: ClassVar[tuple[str, ...]] = tuple(TABLE)
    wants: ClassVar[dict[str, Layer]] = {
        "labels": Layer(kind="segmentation", channels=0),
        "nuclei": Layer(channels=0),
    }

    ids: tuple[SegmentId, ...] | None = None
    """Segments to skeletonize; default: all. An id that does not occur is reported in the end."""
    min_size: Annotated[int, Field(ge=1), SIZE] = 1000
    """Size in voxels, at least 1, or in units; smaller segments get no skeleton."""
    lattice_nm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0
    """Largest side in nanometres of the voxels on which skeletons are computed: voxels of the
    volume are combined by powers of two along each axis."""
    budget: Annotated[int, Field(ge=4096, le=1 << 31)] = 1 << 24
    """Largest bounding box of a segment in such voxels, at least 4096. Larger segments are computed
    on a coarser lattice, or in tiles; a worker needs about 40 bytes for each voxel."""
    coarsest_nm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 64.0
    """Largest side in nanometres of the voxels of a coarser lattice; a segment that does not fit
    the budget there is computed in cubes of the lattice, whose skeletons are joined."""
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = SCALE
    """A path covers what is within `scale` times the radius plus `constant_nm` of it; branches that
    leave this region are kept, others are bumps of the surface."""
    constant_nm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = CONSTANT_NM
    """Nanometres added to it."""
    smooth: Annotated[int, Field(ge=0, le=100)] = ROUNDS
    """Rounds of smoothing, 0 to 100; tips do not move."""
    soma_nm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1500.0
    """Smallest radius of a cell body in nanometres; the nodes inside it become one, the root. 0:
    cell bodies are treated like neurites."""
    swc: bool = False
    """Whether to write a file of each skeleton, too."""

    @property
    def by_id(self) -> ObjectsById:
        return ObjectsById("skeletons", files=self.swc, soma_nm=self.soma_nm or math.inf)

    def partitions(self, bounds: Box) -> int:
        return shards(bounds.size, VOXELS_PER_PARTITION)

    @property
    def factor(self) -> Triple:
        """Voxels of the volume per voxel of the finest lattice."""
        return factor_of(self.voxel_nm, self.lattice_nm)

    def memory(self, shape: Triple) -> int:
        return (24 + BYTES_PER_RUN // VOXELS_PER_RUN) * math.prod(shape)

    def node_memory(self, shape: Triple) -> int:
        return (16 << 20) + self._rows_memory(math.prod(shape))

    def group_memory(self, bounds: Box) -> int:
        rows = self._rows_memory(-(-bounds.size // self.partitions(bounds)))
        coarse = -(-zyx(bounds.shape) // self.factor) + 1
        return (16 << 20) + rows + BYTES_PER_VOXEL * min(self.budget, math.prod(coarse))

    def check(self, grid: BlockGrid) -> list[str]:
        problems = [missing_library()]
        if self.resolution is not None and math.prod(self.factor) > LARGEST_POOL:
            problems.append(
                f"lattice_nm: {self.lattice_nm:g} nm are {list(self.factor)} voxels of "
                f"{list(self.resolution)} nm (z, y, x); expected at most {LARGEST_POOL:,} voxels "
                f"in one; is the voxel size of the run right?"
            )
        return [problem for problem in problems if problem]

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

    def rows(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, labels: np.ndarray, nuclei: np.ndarray | None = None
    ) -> Record:
        labels = labels.astype(np.uint64, copy=False)
        if self.ids is not None:
            labels = np.where(np.isin(labels, np.array(self.ids, np.uint64)), labels, np.uint64(0))
        runs = block_runs(labels, block.read.start, self.factor)
        if nuclei is None or not self.soma_nm:
            return with_nuclei(runs, None)
        inside = np.where(nuclei != 0, labels, np.uint64(0))
        return with_nuclei(runs, block_runs(inside, block.read.start, self.factor))

    def combine(self, round_name: str, rows: Record) -> Record:
        return with_nuclei(*(merged_runs(part) for part in of_nuclei(rows)))

    def group(self, round_name: str, rows: Record) -> Group:
        skeletons, table, seen = [], [], []
        cells, nuclei = of_nuclei(rows)
        centres = {segment: centre_of(runs) for segment, runs in segments_of(nuclei)}
        for segment, runs in segments_of(cells):
            seen.append(segment)
            voxels = int(runs["voxels"].sum())
            if voxels < self.min_size:
                continue
            runs, factor, tiles = within_budget(
                runs, self.factor, self.voxel_nm, self.budget, self.coarsest_nm
            )
            one = segment_skeleton(runs, segment, factor, self.voxel_nm, self.options, tiles)
            if self.soma_nm:
                centre = centres.get(segment)
                at = None if centre is None else self._nm(centre)
                one = with_soma(one, self.soma_nm, at)
            skeletons.append(one)
            side = lattice_side(factor, self.voxel_nm)
            table.append(table_row(skeletons[-1], voxels, side, tiles > 0))
        asked = set(self.ids or ())
        return Group(
            {
                **skeleton_table(table),
                "seen": np.array([segment for segment in seen if segment in asked], np.uint64),
                "small": np.array([len(seen) - len(skeletons)], np.int64),
            },
            {},
            skeletons,
        )

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        parts, table = partials["total"], self.table(partials)
        seen = {segment for part in parts for segment in part["seen"].tolist()}
        return {
            "skeletons": len(table["segment"]),
            "too_small": sum(int(part["small"][0]) for part in parts),
            "length_mm": round(float(table["length_nm"].sum()) * 1e-6, 6),
            "coarser": int((table["lattice_nm"] > lattice_side(self.factor, self.voxel_nm)).sum()),
            "tiled": int(table["tiled"].sum()),
            "unknown_ids": sorted(set(self.ids or ()) - seen),
        }

    @property
    def options(self) -> SkeletonOptions:
        """The parameters of the skeleton of a segment."""
        return SkeletonOptions(self.scale, self.constant_nm, self.smooth)

    def _nm(self, place: np.ndarray) -> np.ndarray:
        """Nanometres of a place in voxels of the finest lattice."""
        factor, side = np.array(self.factor), np.array(self.voxel_nm)
        return np.asarray((place * factor + (factor - 1) / 2) * side)

    def _rows_memory(self, voxels: int) -> int:
        coarse = max(1, math.prod(self.factor) // 4)  # runs are fewer on a coarser lattice
        return BYTES_PER_RUN * voxels // (VOXELS_PER_RUN * coarse)
