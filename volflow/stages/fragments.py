"""The `fragments` stage: affinities divided into fragments."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.agglomeration.block_graph import pack_links
from volflow.segment.fragments import PAD, pieces

BYTES_PER_VOXEL = 28  # measured: 26.5, including a mask and the affinities read
Level = Annotated[int, Field(ge=0, le=255)]


class Fragments(Stage):
    """Fragments of `affinity`: each voxel joins the neighbour across its strongest affinity.

    The stored layer contains pieces of fragments, cut at the faces of blocks, so it depends on the
    blocks. `links` records which pieces belong together; `agglomerate` and `objects` join them, and
    their results do not depend on the blocks.

    Inputs
    ------
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.

    Outputs
    -------
    fragments : uint64, (Z, Y, X)
        Pieces; 0 is background.
    links : table
        Per block, the links across its low faces as bits.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"affinity": Layer("uint8", 3, "affinity")}

    low: Level = 1
    """Affinity, 0 to 255; voxels whose strongest affinity is below this stay background. A voxel
    without any neighbour counts as one of affinity 0."""
    high: Level | None = None
    """Affinity, 0 to 255; all pairs at or above this are joined, too. None: each voxel joins only
    across its strongest affinity."""

    @model_validator(mode="after")
    def _high_is_not_below_low(self) -> Fragments:
        if self.high is not None and self.high < self.low:
            raise ValueError(f"expected high not below low; got {self.high} and {self.low}")
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
        return [
            f"block: expected fewer than 2**31 voxels with the halo, as pieces are numbered in 31 "
            f"bits; got {grid.shape}"
        ]

    def run(  # type: ignore[override]
        self, block: Block, *, affinity: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray | Record]:
        boxes = block.read, block.write, block.bounds
        result = pieces(affinity, *boxes, low=self.low, high=self.high, mask=mask)
        return {"fragments": result.labels, "links": {"bits": pack_links(result.links)}}
