"""The `meshes` stage: surfaces of segments in levels of detail, independently of the blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from volflow.core.fragmented_mesh import FragmentedMesh, MeshGrid
from volflow.core.geometry import Block, BlockGrid, Box, Resolution, Triple, zyx
from volflow.core.stage import SIZE, Group, Layer, ObjectsById, Phase, Record
from volflow.segment.pyramid import pooled_labels
from volflow.shape.marching_cubes import missing_library
from volflow.shape.mesh_fragments import Fragment, cell_fragments
from volflow.shape.mesh_table import (
    OF_VOLUME,
    TABLE,
    fragment_rows,
    joined,
    mesh_table,
    ordered,
    segments_of,
    size_rows,
)
from volflow.shape.runs import factor_of
from volflow.stages.of_segments import OfSegments, shards
from volflow.stages.voxel_sized import VoxelSized

VOXELS_PER_PARTITION = 1 << 26  # of level 0
BYTES_PER_VOXEL = 2  # of fragments; measured with a dense segmentation: 0.6
LARGEST_POOL = 1 << 18  # voxels per voxel of level 0

SegmentId = Annotated[int, Field(ge=1, lt=1 << 64)]


class Meshes(VoxelSized, OfSegments):
    """Meshes of the segments of `labels` in levels of detail, for Neuroglancer.

    Voxels of the volume are combined to those of level 0, about as long along z, y and x; each
    further level has voxels twice as long. At every level the volume is cut into cells of `cell`
    voxels along each side, from the first voxel of the bounds on. A cell is meshed by marching
    cubes and simplified on its own, its borders being left as they are, so the meshes do not depend
    on the blocks and are closed. Needs zmesh and DracoPy: `pip install '.[meshes]'`.

    Inputs
    ------
    labels : integers, (Z, Y, X)
        Segments; 0 is background.

    Outputs
    -------
    results/meshes/precomputed : meshes
        For Neuroglancer, by the id of the segment. (The folder has the name of the step.)
    results/meshes.csv : table
        One row per mesh: segment, voxels, levels of detail, fragments, triangles of level 0, and
        bytes of all fragments.

    References
    ----------
    See `shape/marching_cubes.py`.
    """

    on_all_sections: ClassVar[bool] = True
    row_columns: ClassVar[tuple[str, ...]] = TABLE
    wants: ClassVar[dict[str, Layer]] = {"labels": Layer(kind="segmentation", channels=0)}
    blocks_per_gather: ClassVar[Triple] = (4, 4, 4)

    ids: tuple[SegmentId, ...] | None = None
    """Segments to mesh; default: all. An id that does not occur is reported in the end."""
    min_size: Annotated[int, Field(ge=1), SIZE] = 1000
    """Size in voxels, at least 1, or in units; smaller segments get no mesh."""
    lattice_nm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Largest side in nanometres of the voxels of level 0: voxels of the volume are combined by
    powers of two along each axis. Default: the longest side of a voxel of the volume."""
    cell: Annotated[int, Field(ge=8, le=512, multiple_of=2)] = 128
    """Voxels along each side of a cell, even. Larger cells have fewer triangles and take longer."""
    levels: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = "auto"
    """Levels of detail; auto: until the volume is one cell. A segment has those in which half of it
    is left."""
    error_nm: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Largest distance in nanometres by which simplification moves the surface at level 0, as it
    estimates it; twice as much at each further level. 0: not simplified. Default: the longest side
    of a voxel of level 0."""
    sharded: bool = True
    """Whether meshes are stored in shards; otherwise in two files each."""
    legacy: bool = False
    """Whether to write Neuroglancer's older format instead: one level of detail, in files."""

    @model_validator(mode="after")
    def _one_level(self) -> Meshes:
        if self.legacy and self.levels not in ("auto", 1):
            raise ValueError(f"levels: expected 1 or auto with legacy; got {self.levels}")
        return self

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def by_id(self) -> ObjectsById:
        if self.legacy:
            return ObjectsById("legacy_meshes", sharded=False)
        return ObjectsById("meshes", sharded=self.sharded)

    @property
    def factor(self) -> Triple:
        """Voxels of the volume per voxel of level 0."""
        if self.resolution is None:  # asked before the volumes are open
            return zyx((1, 1, 1))
        return factor_of(self.voxel_nm, self.longest_nm)

    @property
    def longest_nm(self) -> float:
        """The longest side that a voxel of level 0 may have, nanometres."""
        return max(self.voxel_nm) if self.lattice_nm is None else self.lattice_nm

    def block_on(self, bounds: Box, shape: Triple) -> Triple:
        return zyx([self.cell * max(1, round(side / self.cell)) for side in shape])

    def partitions(self, bounds: Box) -> int:
        return shards(bounds.size // math.prod(self.factor), VOXELS_PER_PARTITION)

    def level_zooms(self, bounds: Box) -> list[Triple]:
        """Voxels of the volume per voxel of each level of detail."""
        zooms = [self.factor]
        while len(zooms) < (1 if self.legacy else 16 if self.levels == "auto" else self.levels):
            longest = max(bounds.zoom_out(zooms[-1]).shape)
            if self.levels == "auto" and longest + 1 <= self.cell:
                break
            zooms.append(zyx(zooms[-1]) * 2)
        return zooms

    def zooms(self, bounds: Box) -> tuple[Triple, ...]:
        levels = self.level_zooms(bounds)
        return tuple(levels) if levels[0] == (1, 1, 1) else ((1, 1, 1), *levels)

    def memory(self, shape: Triple) -> int:
        part = 24 * math.prod(self.fine_part)
        return 24 * math.prod(shape) + part + 160 * (self.cell + 1) ** 3 + (16 << 20)

    def node_memory(self, shape: Triple) -> int:
        return (16 << 20) + 2 * BYTES_PER_VOXEL * math.prod(shape)

    def group_memory(self, bounds: Box) -> int:
        voxels = -(-bounds.size // math.prod(self.factor))
        return (32 << 20) + 3 * BYTES_PER_VOXEL * -(-voxels // self.partitions(bounds))

    def check(self, grid: BlockGrid) -> list[str]:
        problems = [missing_library()]
        if self.resolution is not None and math.prod(self.factor) > LARGEST_POOL:
            problems.append(
                f"lattice_nm: {self.longest_nm:g} nm are {list(self.factor)} voxels of "
                f"{list(self.resolution)} nm (z, y, x); expected at most {LARGEST_POOL:,} voxels "
                f"in one; is the voxel size of the run right?"
            )
        return [problem for problem in problems if problem]

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

    def coarser(  # type: ignore[override]  # the inputs by name
        self, block: Block, zoom: Triple, *, labels: np.ndarray
    ) -> dict[str, np.ndarray]:
        inside = block.read.clip(block.bounds)
        if not inside.size:
            shape = zyx(block.read.shape) // zoom
            return {"labels": np.zeros(shape, np.uint64)}
        labels = labels.astype(np.uint64, copy=False)
        exists = None
        if inside != block.read:
            exists = np.zeros(labels.shape, bool)
            exists[inside.within(block.read)] = True
        for step in halvings(zoom):
            labels = pooled_labels(labels, step, exists)
            if exists is not None:
                exists = _any_of(exists, step)
        return {"labels": labels}

    def rows(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, labels: np.ndarray
    ) -> Record:
        return size_rows(self._chosen(block.crop(labels)), OF_VOLUME)

    def rows_at(  # type: ignore[override]  # the inputs by name
        self, phase: Phase, block: Block, *, labels: np.ndarray
    ) -> Record:
        fine = phase.grid.bounds if phase.fine_bounds is None else phase.fine_bounds
        levels = self.level_zooms(fine)
        if phase.zoom in levels:
            rows = self._level_rows(phase.zoom, levels.index(phase.zoom), block, labels)
        else:
            rows = self.rows(block, labels=labels)
        for axis, name in enumerate(("first_z", "first_y", "first_x")):
            rows[name] = np.full(len(rows["segment"]), fine.start[axis], np.int64)
        return rows

    def _level_rows(self, zoom: Triple, level: int, block: Block, labels: np.ndarray) -> Record:
        chosen = self._chosen(labels)
        outside = np.ones(chosen.shape, bool)
        outside[block.read.clip(block.bounds).within(block.read)] = False
        chosen = np.where(outside, np.uint64(0), chosen)
        sizes = [size_rows(block.crop(chosen), level)]
        if zoom == (1, 1, 1):
            sizes.append(size_rows(block.crop(chosen), OF_VOLUME))
        z, y, x = (side * voxels for side, voxels in zip(self.voxel_nm, zoom, strict=True))
        fragments = list(self._fragments(block, chosen, level, (z, y, x)))
        return joined(*sizes, fragment_rows(fragments, level))

    def _fragments(
        self, block: Block, labels: np.ndarray, level: int, side_nm: Resolution
    ) -> Iterator[tuple[Triple, Fragment]]:
        """The fragments of the cells of a block, each with the index of its cell.

        Along an axis, cell i has the voxels from i * cell - 1 to (i + 1) * cell - 1 of the bounds,
        those on its borders twice: with an empty one before the first and after the last.
        """
        first = (block.write.start - block.bounds.start) // self.cell
        at_end = [a == b for a, b in zip(block.write.stop, block.bounds.stop, strict=True)]
        cubes = [side + end for side, end in zip(block.write.shape, at_end, strict=True)]
        error = max(side_nm) if self.error_nm is None else self.error_nm * 2.0**level
        for start in itertools.product(*(range(0, length, self.cell) for length in cubes)):
            box = tuple(
                slice(low, min(low + self.cell, length) + 1)
                for low, length in zip(start, cubes, strict=True)
            )
            cell = first + zyx(start) // self.cell
            for fragment in cell_fragments(labels[box], self.cell, level > 0, side_nm, error):
                yield cell, fragment

    def combine(self, round_name: str, rows: Record) -> Record:
        return ordered(rows)

    def group(self, round_name: str, rows: Record) -> Group:
        meshes, table, seen = [], [], []
        small = bare = 0
        first = zyx([int(rows[f"first_{axis}"][0]) if rows else 0 for axis in "zyx"])
        for segment in segments_of(rows) if rows else ():
            seen.append(segment.segment)
            if segment.voxels < self.min_size:
                small += 1
            elif not segment.levels:
                bare += 1
            else:
                grid = self.grid(first, len(segment.levels))
                meshes.append(FragmentedMesh(segment.segment, grid, segment.levels))
                table.append(segment.table_row)
        asked = set(self.ids or ())
        return Group(
            {
                **mesh_table(table),
                "seen": np.array([segment for segment in seen if segment in asked], np.uint64),
                "small": np.array([small], np.int64),
                "bare": np.array([bare], np.int64),
            },
            {},
            meshes,
        )

    def grid(self, first: Triple, levels: int) -> MeshGrid:
        """The grid of the cells, given the first voxel of the bounds."""
        corners = []
        for level in range(levels):
            zoom = zyx(self.factor) * 2**level
            # cell 0 begins at the centre of the voxel before the first
            corner = (np.array(zyx(first) // zoom) - 0.5) * np.array(zoom) * np.array(self.voxel_nm)
            corners.append(corner)
        z, y, x = np.array(self.voxel_nm) * np.array(self.factor) * self.cell
        shifts = [_triple(corner - corners[0]) for corner in corners]
        return MeshGrid(
            _triple(corners[0]), (float(z), float(y), float(x)), self.cell, tuple(shifts)
        )

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        parts, table = partials["total"], self.table(partials)
        seen = {segment for part in parts for segment in part["seen"].tolist()}
        return {
            "meshes": len(table["segment"]),
            "too_small": sum(int(part["small"][0]) for part in parts),
            "vanished": sum(int(part["bare"][0]) for part in parts),
            "triangles": int(table["triangles"].sum()),
            "bytes": int(table["bytes"].sum()),
            "unknown_ids": sorted(set(self.ids or ()) - seen),
        }

    def _chosen(self, labels: np.ndarray) -> np.ndarray:
        """The labels as uint64, those not asked for being 0."""
        labels = labels.astype(np.uint64, copy=False)
        if self.ids is None:
            return labels
        return np.where(np.isin(labels, np.array(self.ids, np.uint64)), labels, np.uint64(0))


def halvings(zoom: Triple) -> Iterator[Triple]:
    """Steps of 1 or 2 along each axis that make a zoom, the shortest sides first.

    (2, 4, 4) is (1, 2, 2), then (2, 2, 2): the order in which a pyramid is made.
    """
    rest = zyx(zoom)
    while max(rest) > 1:
        longest = max(rest)
        step = zyx([2 if side == longest else 1 for side in rest])
        yield step
        rest = rest // step


def _any_of(exists: np.ndarray, step: Triple) -> np.ndarray:
    """Whether any voxel of each box of `step` voxels exists."""
    z, y, x = (side // each for side, each in zip(exists.shape, step, strict=True))
    boxes = exists.reshape(z, step[0], y, step[1], x, step[2])
    return np.asarray(boxes.any(axis=(1, 3, 5)))


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return (z, y, x)
