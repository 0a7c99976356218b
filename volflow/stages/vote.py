"""The `vote` stage: affinities mixed with the votes of tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record
from volflow.stages.seamed import Seamed
from volflow.track.votes import eroded, voted

BYTES_PER_VOXEL = 96


class Vote(Seamed):
    """`affinity` mixed with the votes of `tracks`, to be used by `fragments` and `agglomerate`.

    A pair of voxels of one track gets a vote for *same*, a pair of two tracks one for *different*,
    and the affinity a becomes `(a + 255 w same) / (1 + w (same + different))`. Across the seams
    between slabs and tiles only *same* counts.

    Inputs
    ------
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    tracks : integers, (Z, Y, X)
        Tracks, joined by `link_tracks`; 0 is background.
    tracks_back : integers, (Z, Y, X), optional
        Those of a second run, such as one from the last section to the first.

    Outputs
    -------
    voted : uint8, (3, Z, Y, X)
        The mixed affinities.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "affinity": Layer("uint8", 3, "affinity"),
        "tracks": Layer(kind="segmentation", channels=0),
        "tracks_back": Layer(kind="segmentation", channels=0),
    }

    weight: Annotated[float, Field(ge=0, le=1000)] = 0.5
    """w, the weight of a vote relative to that of the affinity, 0 to 1000. 0: no change."""
    erode: Annotated[int, Field(ge=0, le=32)] = 0
    """Pixels from the border of a track, within its section, that have no vote. With 1 or more,
    hardly any votes for *different* are left."""

    @property
    def halo(self) -> Triple:
        return (1, 1 + self.erode, 1 + self.erode)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"voted": Layer("uint8", 3, "affinity")}

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return [
            f"{name}: expected integers; got {layer.dtype}"
            for name in ("tracks", "tracks_back")
            if (layer := inputs.get(name)) is not None and np.dtype(layer.dtype).kind not in "iu"
        ]

    def run(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        affinity: np.ndarray,
        tracks: np.ndarray,
        tracks_back: np.ndarray | None = None,
    ) -> dict[str, np.ndarray | Record]:
        known = block.read.clip(block.bounds)
        inside = known.within(block.read)
        runs = [eroded(run[inside], self.erode) for run in (tracks, tracks_back) if run is not None]
        mixed = affinity.copy()
        mixed[(slice(None), *inside)] = voted(
            affinity[(slice(None), *inside)],
            runs,
            known,
            block.bounds,
            self.seams(block.bounds),
            self.weight,
        )
        return {"voted": mixed}
