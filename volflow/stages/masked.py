"""Stages that mask labels by a foreground: `mask_below`, and all that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from volflow.core.stage import Layer, Phase, Stage
from volflow.segment.restrict import check_masked, unread, without_mask


class Masked(Stage):
    """A stage with an optional input `foreground`, read if `mask_below` is given."""

    mask_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of 255, 0 to 1; voxels whose foreground is below it are background, after all
    merging. Segments keep their ids. 0: no mask."""

    def identity(self) -> dict[str, Any]:
        return without_mask(super().identity())

    def reads(self, phase: Phase) -> frozenset[str]:
        return super().reads(phase) - unread(self.mask_below)

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return [*super().check_inputs(inputs, resolution), *check_masked(inputs, self.mask_below)]
