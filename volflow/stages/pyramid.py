"""The `pyramid` stage: coarser scales of a volume, each made from the one before."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Phase, Stage
from volflow.segment.pyramid import pooled_image, pooled_labels

Factor = Annotated[int, Field(ge=1, le=2)]

PART: Triple = (64, 64, 64)  # voxels made at once
SMALL = 64  # voxels per side below which a volume needs no coarser scale to be seen at once


class Pyramid(Stage):
    """Scales 1, 2, ... of `labels`, written beside its scale 0.

    The output voxel of absolute coordinate v stands for the voxels v*f ... v*f + f - 1 of the
    scale before that lie in the bounds. What `run` is given, with `zoom` the factor of the pass:

        block     in output voxels, a part of a block of the grid
        labels    over block.write.zoom_in(zoom), not clipped; whatever outside the bounds
        mask      over the same box, False outside the bounds; None where all of it is inside
    """

    kind: Literal["labels", "image"] = "labels"
    """labels: the most frequent label, of several the smallest. image: the mean."""
    levels: Annotated[int, Field(ge=1, le=20)] | Literal["auto"] = "auto"
    """Scales to make; auto: until no side is longer than 64 voxels."""
    factors: tuple[tuple[Factor, Factor, Factor], ...] = ()
    """Factor of each level from the first on, z y x; [2, 2, 2] for the levels beyond.

    For voxels four times longer in z than in x: [[1, 2, 2], [1, 2, 2]].
    """

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"pyramid": Layer(kind="segmentation" if self.kind == "labels" else "image")}

    def memory(self, shape: Triple) -> int:
        voxels = int(np.prod(shape))
        return voxels * (8 * (2 * 8 + 2) + 2 * 8)  # 8 voxels and mask read per one of 8 bytes

    def scales(self, grid: BlockGrid) -> list[Triple]:
        """The factor of each level over a volume of these bounds."""
        found: list[Triple] = []
        bounds = grid.bounds
        while len(found) < (20 if self.levels == "auto" else self.levels):
            if self.levels == "auto" and max(bounds.shape) <= SMALL:
                break
            level = len(found)
            found.append(self.factors[level] if level < len(self.factors) else (2, 2, 2))
            bounds = bounds.zoom_out(found[-1])
        return found

    def check(self, grid: BlockGrid) -> list[str]:
        idle = [level for level, factor in enumerate(self.factors, 1) if max(factor) == 1]
        wrong = [f"factors: level {level} is as large as the one before it" for level in idle]
        if self.levels != "auto" and len(self.factors) > self.levels:
            wrong.append(f"factors: {len(self.factors)} given for {self.levels} levels")
        return wrong

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        found = []
        bounds = grid.bounds
        for level, factor in enumerate(self.scales(grid), 1):
            bounds = bounds.zoom_out(factor)
            found.append(
                Phase(
                    f"scale.{level}",
                    "map",
                    BlockGrid(bounds, grid.shape),
                    level=level,
                    zoom=factor,
                    scales=(level - 1, level),
                    part=PART,
                )
            )
        return tuple(found)

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, labels: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        sides = zip(labels.shape[-3:], block.write.shape, strict=True)
        z, y, x = (fine // max(1, coarse) for fine, coarse in sides)
        pool = pooled_labels if self.kind == "labels" else pooled_image
        return {"pyramid": pool(labels, (z, y, x), mask)}
