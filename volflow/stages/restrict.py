"""The `restrict` stage: affinities limited by a foreground probability."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.restrict import restricted


class Restrict(Stage):
    """`affinity`, limited to the `foreground` of the two voxels that it joins.

    Stages that read affinities take the result with `in: {affinity: restricted}`. Voxels of
    membranes should take part in fragments and contacts (`low: 0` of the stage `fragments`): of a
    membrane that is taken out, only its leaks remain as contact, and their mean affinity is high.
    Background is removed from the labels at the end, by `mask_below` of the stage `relabel`.

    Inputs
    ------
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    foreground : uint8, (Z, Y, X)
        `round(255 p)` of the probability that a voxel is part of a cell.

    Outputs
    -------
    restricted : uint8, (3, Z, Y, X)
        The minimum of each affinity and the foreground of both voxels; 0 where the foreground of
        one is below `least`.

    References
    ----------
    SegNeuron (MICCAI 2024), code published by its authors; see `segment/restrict.py` for the
    difference.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
        "foreground": Layer("uint8", 0, halo_region="before"),
    }

    least: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of 255, 0 to 1; all affinities of a voxel whose foreground is below it become 0. 0:
    no threshold."""

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"restricted": Layer("uint8", 3, "affinity")}

    def memory(self, shape: Triple) -> int:
        return 14 * int(np.prod(shape))  # affinities in and out, 3 + 3 + 3; foreground, 1 + 1 + 1

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, affinity: np.ndarray, foreground: np.ndarray
    ) -> dict[str, np.ndarray | Record]:
        inside = block.read.clip(block.bounds).within(block.read)
        known = np.full_like(foreground, 255)  # pairs that leave the bounds have one voxel only
        known[inside] = foreground[inside]
        return {"restricted": restricted(affinity, known[:-1, :-1, :-1], self.least)}
