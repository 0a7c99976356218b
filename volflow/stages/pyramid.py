"""The `pyramid` stage: coarser scales of a volume, each downsampled from the one before."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.pooling import pooled_image
from volflow.core.stage import Columns, Layer, Phase, Stage
from volflow.segment.pyramid import pooled_labels

Factor = Annotated[int, Field(ge=1, le=2)]

PART: Triple = (64, 64, 64)  # output voxels computed at once
SMALL = 64  # voxels per side up to which a volume needs no coarser scale for an overview


class Pyramid(Stage):
    """Scales 1, 2, ... of `labels`, added to the volume that has its scale 0.

    The output voxel at absolute coordinate v pools the voxels v*f ... v*f + f - 1 of the scale
    before, as far as they are within the bounds.

    Inputs
    ------
    labels : any integers, or floats if `kind` is image; (Z, Y, X) or (C, Z, Y, X)
        Scale 0 of the volume: labels or an image.

    Outputs
    -------
    pyramid : as `labels`
        The coarser scales, stored with the volume `labels`.

    Notes
    -----
    The arguments of `run`, with `zoom` the factor of the phase:

        block     in output voxels, a part of a block of the grid
        labels    over block.write.zoom_in(zoom), not clipped; arbitrary outside the bounds
        mask      over the same box, False outside the bounds; None if all of it is inside
    """

    on_all_sections: ClassVar[bool] = True

    kind: Literal["labels", "image"] = "labels"
    """labels: the most frequent label, ties go to the smallest; image: the mean."""
    levels: Annotated[int, Field(ge=1, le=20)] | Literal["auto"] = "auto"
    """Number of scales to compute, 1 to 20; auto: until no side is longer than 64 voxels."""
    factors: tuple[tuple[Factor, Factor, Factor], ...] = ()
    """Downsampling factors z y x, each 1 or 2, of the levels from the first on; [2, 2, 2] for all
    further levels. For voxels four times longer along z than along x: [[1, 2, 2], [1, 2, 2]]."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"pyramid": Layer(kind="segmentation" if self.kind == "labels" else "image")}

    def memory(self, shape: Triple) -> int:
        voxels = int(np.prod(shape))
        return voxels * (8 * (2 * 8 + 2) + 2 * 8)  # 8 voxels and mask read per one of 8 bytes

    def scales(self, grid: BlockGrid) -> list[Triple]:
        """The factors of each level for a volume of these bounds."""
        factors: list[Triple] = []
        bounds = grid.bounds
        while len(factors) < (20 if self.levels == "auto" else self.levels):
            if self.levels == "auto" and max(bounds.shape) <= SMALL:
                break
            level = len(factors)
            factors.append(self.factors[level] if level < len(self.factors) else (2, 2, 2))
            bounds = bounds.zoom_out(factors[-1])
        return factors

    def check(self, grid: BlockGrid) -> list[str]:
        unchanged = [level for level, factor in enumerate(self.factors, 1) if max(factor) == 1]
        problems = [
            f"factors: level {level} has the size of the one before; expected a factor of 2 along "
            f"at least one axis"
            for level in unchanged
        ]
        if self.levels != "auto" and len(self.factors) > self.levels:
            problems.append(
                f"factors: expected those of at most {self.levels} levels; got {len(self.factors)}"
            )
        return problems

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        phases = []
        bounds = grid.bounds
        for level, factor in enumerate(self.scales(grid), 1):
            bounds = bounds.zoom_out(factor)
            phases.append(
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
        return tuple(phases)

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, labels: np.ndarray, mask: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        sides = zip(labels.shape[-3:], block.write.shape, strict=True)
        z, y, x = (fine // max(1, coarse) for fine, coarse in sides)
        pool = pooled_labels if self.kind == "labels" else pooled_image
        return {"pyramid": pool(labels, (z, y, x), mask)}
