"""The `synth` stage: an electron micrograph that nobody took, and its exact truth."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Stage
from volflow.synth import Neuropil


class Synth(Stage):
    """Synthetic neuropil over the pipeline's bounds: image, affinities, truth.

    It reads nothing, so the pipeline file says `bounds` and a resolution.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    cell: Annotated[int, Field(ge=8, le=64)] = 14
    """Mean width of a neurite, voxels."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Standard deviation of the image's noise, grey values."""
    doubt: Annotated[float, Field(ge=0)] = 1.0
    """How wrong the affinities are; at 0 they are only blurred."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {
            "em": Layer(dtype="uint8", channels=0, kind="image"),
            "affinity": Layer(dtype="uint8", channels=3, kind="affinity"),
            "truth": Layer(dtype="uint64", channels=0, kind="segmentation"),
        }

    def memory(self, shape: Triple) -> int:
        # near the faces of the bounds a block looks two and a half cells beyond itself
        wide = [side + 5 * self.cell + 2 for side in shape]
        return 36 * int(np.prod(wide)) + 48 * int(np.prod(shape)) + (32 << 20)

    def check(self, grid: BlockGrid) -> list[str]:
        if min(grid.bounds.shape) >= 2 * self.cell:
            return []
        return [
            f"neurites {self.cell} voxels wide need bounds of {2 * self.cell} voxels along each "
            f"axis; got {grid.bounds.shape}"
        ]

    def run(self, block: Block) -> dict[str, np.ndarray]:  # type: ignore[override]  # no inputs
        neuropil = Neuropil(block.bounds, self.seed, self.cell, self.noise, self.doubt)
        truth, image, affinity = neuropil.render(block.write)
        return {"em": image, "affinity": affinity, "truth": truth}
