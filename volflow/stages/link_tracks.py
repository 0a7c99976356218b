"""The `link_tracks` stage: tracks of slabs, tiles and directions joined into objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.core.stage import Columns, Layer, Phase, PreviousRound, Record, Reduction, Up
from volflow.segment.agglomeration.renaming import Renaming, names_record, split_names
from volflow.stages.seamed import Seamed, Side
from volflow.track.linking import joined
from volflow.track.seams import extents, overlaps_beyond, pooled, run_numbers, shared_voxels

BYTES_PER_VOXEL = 160
VOXELS_PER_ROW = 1 << 8
BYTES_PER_ROW = 400


class LinkTracks(Seamed, Reduction):
    """A table that joins the tracks of slabs and tiles, and those of two directions.

    Each chain also labels voxels that others write: a margin around its tile, and sections of the
    next slab. Tracks that overlap there are joined if each is the other's best, unless the objects
    have two tracks of one chain in the same section. A second run (`tracks_back`) overlaps with the
    first one everywhere. The result does not depend on how chains were divided into parts.

    Inputs
    ------
    tracks : uint64, (Z, Y, X)
        From the stage `track`.
    beyond : table
        The labels beyond each part, from the same step.
    tracks_back, beyond_back : optional
        The same of a second run, with `reverse: true` if the first has not.

    Outputs
    -------
    table : table
        `piece`, a track, and `segment`, its object; the stage `relabel` turns it into a volume.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "tracks": Layer("uint64", 0, "segmentation"),
        "tracks_back": Layer("uint64", 0, "segmentation"),
    }

    part: Side = 16
    """Sections of a part, as in the step `track`."""
    slab_overlap: Annotated[int, Field(ge=0)] = 8
    """Sections of the next slab that a chain labels, too, as in the step `track`."""
    margin: Annotated[int, Field(ge=0)] = 32
    """Voxels around a tile that a chain labels, too, as in the step `track`."""
    score: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Smallest overlap, 0 to 1, of two tracks that are joined."""

    @property
    def halo(self) -> Triple:
        return (self.slab_overlap, self.margin, self.margin)

    def block_on(self, bounds: Box, shape: Triple) -> Triple:
        return zyx((self.part, *(self.tile or bounds.shape[1:])))

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"table": Columns((("piece", "uint64"), ("segment", "uint64")))}

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("link",)

    @property
    def descends(self) -> bool:
        return True

    def reads(self, phase: Phase) -> frozenset[str]:
        return frozenset(self.inputs()) if phase.kind == "leaf" else frozenset()

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return (16 << 20) + BYTES_PER_ROW * int(np.prod(shape)) // VOXELS_PER_ROW

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        tracks: np.ndarray,
        beyond: Record,
        tracks_back: np.ndarray | None = None,
        beyond_back: Record | None = None,
    ) -> Up:
        grid = BlockGrid(block.bounds, self.seams(block.bounds))
        own = block.crop(tracks)
        parts = [
            overlaps_beyond(beyond, tracks, block.read, grid, 0),
            extents(own, block.write, grid, 0),
        ]
        if tracks_back is not None:
            back = block.crop(tracks_back)
            parts.append(extents(back, block.write, grid, len(grid)))
            if beyond_back is not None:
                parts.append(overlaps_beyond(beyond_back, tracks_back, block.read, grid, len(grid)))
            z, y, x = (axis.ravel() for axis in np.indices(own.shape))
            voxels = [v + first for v, first in zip((z, y, x), block.write.start, strict=True)]
            run = run_numbers(voxels, grid)
            parts.append(shared_voxels(own.ravel(), back.ravel(), run, run + len(grid), voxels[0]))
        tables = pooled(*parts)
        return self._node(block, tables, [tables["extent.id"]])

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        return self._node(block, pooled(*children), [child["extent.id"] for child in children])

    def _node(self, block: Block, tables: Record, names: Sequence[np.ndarray]) -> Up:
        """The tables of a box; the root decides which tracks are joined."""
        if block.write != block.bounds:
            return Up(tables, names_record(names, names))
        renaming = Renaming.between(*_column(*joined(tables, self.score)))
        after = [renaming(each) for each in names]
        return Up(_counted(tables, renaming), names_record(names, after))

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        return split_names(retained, received)

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        piece, after = previous.retained["before"], previous.retained["after"]
        return {
            "table": {"piece": piece, "segment": Renaming.from_record(previous.received)(after)}
        }

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        return {
            name: int(sum(root[f"count.{name}"][0] for root in roots))
            for name in ("tracks", "objects")
            if all(f"count.{name}" in root for root in roots)
        }


def _column(ids: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ids, names[:, None]


def _counted(tables: Record, renaming: Renaming) -> Record:
    ids = tables["extent.id"]
    counts = {"tracks": len(ids), "objects": len(np.unique(renaming(ids)))}
    return {**tables, **{f"count.{name}": np.array([n]) for name, n in counts.items()}}
