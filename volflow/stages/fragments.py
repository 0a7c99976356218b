"""The stage that cuts affinities into fragments."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.agglomeration.block_graph import pack_links
from volflow.segment.fragments import PAD, pieces

BYTES_PER_VOXEL = 28  # measured: 26.5, with a mask and the affinities that were read
Level = Annotated[int, Field(ge=0, le=255)]


class Fragments(Stage):
    """Pieces of the fragments of `affinity`: each voxel joins its strongest neighbour.

    The layer holds fragments cut at the faces of blocks, so it depends on the blocks; `links`
    tells where they were cut, and `agglomerate` puts them together.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"affinity": Layer("uint8", 3, "affinity")}

    low: Level = 1
    """A voxel whose strongest affinity is below this is left unlabelled. One that has no
    neighbour at all counts as one of affinity 0."""
    high: Level | None = None
    """Pairs at or above this are joined as well; None: only each voxel's strongest."""

    @model_validator(mode="after")
    def _high_is_not_below_low(self) -> Fragments:
        if self.high is not None and self.high < self.low:
            raise ValueError(f"high must not be below low; got {self.high} and {self.low}")
        return self

    @property
    def halo(self) -> Triple:
        return (PAD, PAD, PAD)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        layer = Layer("uint64", 0, "segmentation", blockwise=True)
        return {"fragments": layer, "links": Columns((("bits", "uint8"),))}

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def check(self, grid: BlockGrid) -> list[str]:
        if int(np.prod([float(side) + 2 * PAD for side in grid.shape])) < 2**31:
            return []
        return [f"a block of {grid.shape} voxels is too large: pieces are counted in 31 bits"]

    def run(  # type: ignore[override]
        self, block: Block, *, affinity: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray | Record]:
        found = pieces(affinity, block.read, block.write, block.bounds, self.low, self.high, mask)
        return {"fragments": found.labels, "links": {"bits": pack_links(found.links)}}
