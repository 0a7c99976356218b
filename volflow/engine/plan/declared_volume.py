"""Volumes taken as declared: for a plan whose data is remote, or does not exist yet.

Properties that are not declared are those that the first reader expects. Such a plan is for
reading, never for running: its digests do not depend on the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Checked, Problem
from volflow.config.wiring import Wiring
from volflow.core.geometry import Box, Resolution, Zyx, zyx
from volflow.core.stage import Layer
from volflow.io.downsampled_array import coarser, downsampling_factors


@dataclass(frozen=True)
class DeclaredVolume:
    """The declared properties of a volume; the part of `Volume` that planning uses."""

    spec: VolumeSpec
    bounds: Box
    resolution: Resolution | None
    dtype: np.dtype[Any]
    channels: int
    warnings: tuple[str, ...] = ()
    downsample: Zyx = zyx(1)  # noqa: RUF009  # a tuple

    @property
    def format(self) -> str:
        """No storage format: the volume may not exist."""
        return "assumed"

    @property
    def address(self) -> str:
        """The declared address."""
        return self.spec.path

    def identity(self) -> dict[str, Any]:
        """The content of its digest."""
        layer = [str(self.dtype), self.channels]
        return {"assumed": self.address, "layer": layer, "bounds": str(self.bounds)}


def declared_volume(
    pipeline: Pipeline, wiring: Wiring, name: str
) -> Checked[DeclaredVolume | None]:
    """The volume of that name as declared, completed by what its reader expects."""
    spec = pipeline.volumes[name]
    if pipeline.bounds is None:
        yield Problem(
            (),
            "the bounds are unknown, as no volume is opened offline; "
            "give bounds: z0:z1,y0:y1,x0:x1 in voxels",
        )
        return None
    expected = _expected(wiring, name)
    channels = len(spec.channels) if spec.channels is not None else expected.channels or 0
    resolution, factors = spec.resolution, zyx(1)
    if resolution is not None or not isinstance(spec.downsample, str):
        factors = downsampling_factors(spec.downsample, resolution)
        resolution = coarser(resolution, factors)
    return DeclaredVolume(
        spec,
        Box.parse(pipeline.bounds),
        resolution or pipeline.resolution,
        np.dtype(expected.dtype or "uint8"),
        channels,
        downsample=factors,
    )


def _expected(wiring: Wiring, name: str) -> Layer:
    for step in wiring.steps:
        for input_name, volume in step.inputs.items():
            if volume == name:
                return step.stage.wants.get(input_name, Layer())
    return Layer()
