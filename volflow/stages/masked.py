"""Stages that finish labels: background by a foreground (`mask_below`), and filled (`fill_nm`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple, zyx
from volflow.core.stage import Layer, Phase, Record
from volflow.segment.fill import fill_halo, filled
from volflow.segment.restrict import check_masked, masked, unread, without_mask
from volflow.stages.voxel_sized import VoxelSized

FARTHEST_NM = 10_000


class Masked(VoxelSized):
    """A stage with an optional input `foreground`, read if `mask_below` is given."""

    mask_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of 255, 0 to 1; voxels whose foreground is below it are background, after all
    merging. Segments keep their ids. 0: no mask."""
    fill_nm: Annotated[float, Field(ge=0, le=FARTHEST_NM)] = 0.0
    """Distance in nanometres, up to 10,000; background within it of a segment, after `mask_below`,
    gets the label of the nearest one. Voxels outside the run's mask stay background. 0: off."""

    @property
    def halo(self) -> Triple:
        """Voxels within `fill_nm`, or the halo of the stage itself, if that is larger."""
        if not self.fill_nm:
            return super().halo
        return zyx(super().halo).maximum(fill_halo(self.fill_nm, self.voxel_nm))

    @property
    def tables_in_halo(self) -> bool:
        return self.fill_nm > 0

    def identity(self) -> dict[str, Any]:
        identity = without_mask(super().identity())
        if self.fill_nm:
            return identity
        return {name: v for name, v in identity.items() if name not in ("fill_nm", "resolution")}

    def reads(self, phase: Phase) -> frozenset[str]:
        return super().reads(phase) - unread(self.mask_below)

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        problems = [*super().check_inputs(inputs, resolution)]
        if self.fill_nm:
            problems += self.resolution_problems(resolution)
        return [*problems, *check_masked(inputs, self.mask_below)]

    def finished(self, labels: np.ndarray, foreground: np.ndarray | None) -> np.ndarray:
        """Labels over voxels of the bounds, masked and filled."""
        labels = masked(labels, foreground, self.mask_below)
        return filled(labels, self.fill_nm, self.voxel_nm) if self.fill_nm else labels

    def finished_pieces(
        self, block: Block, pieces: np.ndarray, foreground: np.ndarray | None
    ) -> np.ndarray:
        """Pieces over the read box, masked and filled; 0 beyond the bounds if they are filled.

        Filled pieces renamed are the filled segments, as the nearest voxel is the same.
        """
        if not self.fill_nm:
            return self.finished(pieces, foreground)
        known = block.read.clip(block.bounds).within(block.read)
        whole = np.zeros_like(pieces)
        whole[known] = self.finished(
            pieces[known], None if foreground is None else foreground[known]
        )
        return whole

    def rows_by_piece(self, table: Record) -> Record:
        """A table of pieces in ascending order: of several blocks, it has a part for each."""
        if not self.tables_in_halo:
            return table
        order = np.argsort(table["piece"])
        return {name: column[order] for name, column in table.items()}
