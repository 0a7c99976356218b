"""The stage that turns probabilities of objects into affinities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Layer, Stage
from volflow.segment.objects import Levels, core_affinities

BYTES_PER_VOXEL = 16  # measured: 9.5, with two channels that were read
Share = Annotated[float, Field(gt=0, le=1)]
Channel = Annotated[int, Field(ge=0)]


class ObjectAffinities(Stage):
    """Affinities from `probability`: 255 within the cores of objects, weaker around them.

    `fragments` with `high: 255` and `objects` make instances of them; see `docs/objects.md`.
    """

    wants: ClassVar[dict[str, Layer]] = {"probability": Layer("uint8")}

    inside: Channel = 0
    """The channel that tells how surely a voxel is inside of an object."""
    contours: Channel | None = None
    """The channel that tells how surely it lies on a contour; None: there is no such channel."""
    core: Share = 0.9
    """Voxels at least this surely inside are part of a core, if they are on no contour."""
    contour: Share = 0.8
    """Voxels at least this surely on a contour are part of no core."""
    low: Share = 0.5
    """Voxels less surely inside are part of no object."""

    @model_validator(mode="after")
    def _core_is_not_below_low(self) -> ObjectAffinities:
        if self.core < self.low:
            raise ValueError(f"core must not be below low; got {self.core} and {self.low}")
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
        there = max(1, layer.channels)
        return [
            f"{name}: expected one of the {there} channels of probability, from 0 on; got {channel}"
            for name, channel in (("inside", self.inside), ("contours", self.contours))
            if channel is not None and channel >= there
        ]

    def run(  # type: ignore[override]  # the inputs by name
        self, block: Block, *, probability: np.ndarray
    ) -> dict[str, np.ndarray]:
        channels = probability.reshape(-1, *probability.shape[-3:])
        before = (slice(0, -1),) * 3  # nothing is asked of the voxels after the block
        inside = channels[self.inside][before]
        contour = None if self.contours is None else channels[self.contours][before]
        found = core_affinities(inside, contour, Levels(*map(_level, self._thresholds)))
        return {"affinity": found}

    @property
    def _thresholds(self) -> tuple[float, float, float]:
        return self.core, self.contour, self.low


def _level(share: float) -> int:
    """The least value that stands for at least this probability, where 255 stands for 1."""
    return math.ceil(255 * share - 1e-9)
