"""Volumes that are taken on their declaration: a plan for data that is far away, or not there yet.

What is not declared is what its first reader wants. Such a plan is for reading, never for running:
its digests know nothing of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Problems
from volflow.config.wiring import Wiring
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.engine.job import Resolution


@dataclass(frozen=True)
class DeclaredVolume:
    """What is taken for granted of a volume; the part of `Volume` that planning asks."""

    spec: VolumeSpec
    bounds: Box
    resolution: Resolution | None
    dtype: np.dtype[Any]
    channels: int
    format: str = "assumed"

    @property
    def address(self) -> str:
        """Where it is said to be."""
        return self.spec.path

    def identity(self) -> dict[str, Any]:
        """What a digest is made of."""
        layer = [str(self.dtype), self.channels]
        return {"assumed": self.address, "layer": layer, "bounds": str(self.bounds)}


def declared_volume(
    pipeline: Pipeline, wiring: Wiring, name: str, problems: Problems
) -> DeclaredVolume | None:
    """The volume of that name as it is declared, filled up with what its reader wants."""
    spec = pipeline.volumes[name]
    if pipeline.bounds is None:
        text = (
            "offline nothing is opened that would tell the bounds; give bounds: z0:z1,y0:y1,x0:x1"
        )
        if not any(text in found for found in problems.found):
            problems.add((), text)
        return None
    wanted = _wanted(wiring, name)
    channels = len(spec.channels) if spec.channels is not None else wanted.channels or 0
    resolution = spec.resolution or pipeline.resolution
    dtype = np.dtype(wanted.dtype or "uint8")
    return DeclaredVolume(spec, Box.parse(pipeline.bounds), resolution, dtype, channels)


def _wanted(wiring: Wiring, name: str) -> Layer:
    for step in wiring.steps:
        for place, volume in step.inputs.items():
            if volume == name:
                return step.stage.wants.get(place, Layer())
    return Layer()
