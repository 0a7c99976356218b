"""The stage that restricts affinities to a foreground."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.restrict import restricted


class Restrict(Stage):
    """`affinity`, but no surer than `foreground` is of either of the two voxels that it joins.

    What segments affinities takes `restricted` in their place: `in: {affinity: restricted}`.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
        "foreground": Layer("uint8", 0, halo_region="before"),
    }

    least: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A voxel whose foreground is below this fraction of 255 is joined with nothing, so
    `fragments` leaves it unlabelled; 0: none is cut off."""

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
        known = np.full_like(foreground, 255)  # a pair that leaves the bounds has one voxel
        known[inside] = foreground[inside]
        return {"restricted": restricted(affinity, known[:-1, :-1, :-1], self.least)}
