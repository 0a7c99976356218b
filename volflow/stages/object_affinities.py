"""The `object_affinities` stage: probabilities of objects turned into affinities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Layer, Stage
from volflow.segment.objects import Levels, core_affinities

BYTES_PER_VOXEL = 16  # measured: 9.5, including two channels read
Share = Annotated[float, Field(gt=0, le=1)]
Channel = Annotated[int, Field(ge=0)]


class ObjectAffinities(Stage):
    """Affinities from `probability`: 255 within the cores of objects, lower around them.

    The stages `fragments`, with `high: 255`, and `objects` turn them into instances; see
    `docs/objects.md`.

    Inputs
    ------
    probability : uint8, (Z, Y, X) or (C, Z, Y, X)
        `round(255 p)`, a channel for the inside of objects and, optionally, one for contours.

    Outputs
    -------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    """

    wants: ClassVar[dict[str, Layer]] = {"probability": Layer("uint8")}

    inside: Channel = 0
    """Channel, counted from 0, with the probability of being inside an object."""
    contours: Channel | None = None
    """Channel, counted from 0, with the probability of being on a contour; None: no contours."""
    core: Share = 0.9
    """Probability of being inside, up to 1; voxels at or above it that are not on a contour form
    the cores of objects."""
    contour: Share = 0.8
    """Probability of a contour, up to 1; voxels at or above it are not part of a core."""
    low: Share = 0.5
    """Probability of being inside, up to `core`; voxels below it are not part of an object."""

    @model_validator(mode="after")
    def _core_is_not_below_low(self) -> ObjectAffinities:
        if self.core < self.low:
            raise ValueError(f"expected core not below low; got {self.core} and {self.low}")
        return self

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer]:  # type: ignore[override]  # no tables
        return {"affinity": Layer("uint8", 3, "affinity")}

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        layer = inputs.get("probability")
        if layer is None or layer.channels is None:
            return []
        count = max(1, layer.channels)
        return [
            f"{name}: expected a channel of probability, 0 to {count - 1}; got {channel}"
            for name, channel in (("inside", self.inside), ("contours", self.contours))
            if channel is not None and channel >= count
        ]

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, probability: np.ndarray
    ) -> dict[str, np.ndarray]:
        channels = probability.reshape(-1, *probability.shape[-3:])
        before = (slice(0, -1),) * 3  # without the voxels after the block
        inside = channels[self.inside][before]
        contour = None if self.contours is None else channels[self.contours][before]
        levels = Levels.of_probabilities(self.core, self.contour, self.low)
        return {"affinity": core_affinities(inside, contour, levels)}
