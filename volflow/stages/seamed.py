"""Parameters of stages that read tracks: the slabs and tiles that were followed independently."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volflow.core.geometry import Box, Triple, zyx
from volflow.core.stage import Stage

Side = Annotated[int, Field(ge=1)]


class Seamed(Stage):
    """A stage that reads tracks, whose labels are not joined across the seams of `track`."""

    slab: Annotated[int, Field(ge=0)] = 0
    """Sections of a slab, as in the step `track`. 0: all."""
    tile: tuple[Side, Side] | None = None
    """Sides y x of a tile in voxels, as in the step `track`. Default: one tile."""

    def seams(self, bounds: Box) -> Triple:
        """Sides z y x of the boxes that were followed independently."""
        return zyx((self.slab or max(bounds.shape[0], 1), *(self.tile or bounds.shape[1:])))
