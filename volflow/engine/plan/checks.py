"""Checks of a step's inputs and outputs; each yields the problems it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from volflow.config.keys import KeyPath
from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Problem
from volflow.config.wired_step import WiredStep
from volflow.core.geometry import Box, Resolution, Triple
from volflow.core.stage import Columns, Layer, Table
from volflow.engine.job import Target
from volflow.engine.plan.chunks import block_path
from volflow.engine.plan.formatting import triple_text
from volflow.io.volume import Volume

READ_ONLY = (
    *("channels", "offset_sign", "scale", "boundary", "ignore", "offset", "level", "missing"),
    *("downsample", "version"),
)


def check_layer(
    step: WiredStep, name: str, expected: Layer, given: Layer, foreign: bool
) -> Iterator[Problem]:
    """Check an input's dtype and channels against the stage's declaration."""
    volume = step.inputs[name]
    place: KeyPath = ("volumes", volume) if foreign else ("steps", step.number)
    reads = f"step '{step.name}' reads '{volume}'"
    if expected.dtype and np.dtype(expected.dtype) != np.dtype(given.dtype):
        hint = ""
        if foreign and expected.dtype == "uint8" and np.dtype(given.dtype).kind == "f":
            hint = f"; volumes.{volume}.scale: 255 converts values in 0..1 to uint8"
        yield Problem(place, f"{reads}: expected {expected.dtype}, got {given.dtype}{hint}")
    elif expected.kind == "segmentation" and np.dtype(given.dtype).kind != "u":
        hint = ""
        if foreign and np.dtype(given.dtype).kind == "i":
            hint = (
                f"; volumes.{volume}.ignore: -1 reads signed labels, and -1 as 0; [] if none is "
                f"negative"
            )
        yield Problem(
            place, f"{reads}: expected labels (unsigned integers), got {given.dtype}{hint}"
        )
    if expected.channels is not None and expected.channels != given.channels:
        hint = f"; select them with volumes.{volume}.channels" if foreign and given.channels else ""
        counts = f"expected {_channels(expected.channels)}, got {_channels(given.channels)}"
        yield Problem(place, f"{reads}: {counts}{hint}")


def _channels(count: int | None) -> str:
    return f"{count} channels" if count else "no channel axis"


def check_whole_table(step: WiredStep, name: str, given: Layer | Columns) -> Iterator[Problem]:
    """Check that an input that is to be a table of the whole volume is one."""
    if not isinstance(given, Table):
        kind = "a table of each block" if isinstance(given, Columns) else "a volume"
        yield Problem(
            ("steps", step.number, "in", name),
            f"step '{step.name}' reads '{step.inputs[name]}' as a table of the whole volume, such "
            f"as that of the stage `synapses`; got {kind}",
        )


def check_downsampling(
    step: WiredStep, name: str, expected: Layer | None, spec: VolumeSpec
) -> Iterator[Problem]:
    """Check that an input that is averaged over voxels is an image."""
    reasons = {
        "segmentation": "labels, and the mean of two labels is another object's",
        "affinity": "affinities, which are of voxels next to each other: their mean is of none",
    }
    kind = expected.kind if expected is not None else ""
    if spec.downsample is not None and kind in reasons:
        volume = step.inputs[name]
        yield Problem(
            ("volumes", volume, "downsample"),
            f"only images are averaged; step '{step.name}' reads '{volume}' as {reasons[kind]}; "
            f"leave downsample out, or take a coarser scale with volumes.{volume}.level",
        )


def check_same_blocks(
    step: WiredStep, volume: str, writer: WiredStep, bounds: Box
) -> Iterator[Problem]:
    """Check that a blockwise input is read on the blocks on which it was written.

    Along an axis, blocks of any length that is at least that of the bounds are the same.
    """
    sides = zip(writer.block, step.block, bounds.shape, strict=True)
    if any(one != other and min(one, other) < side for one, other, side in sides):
        yield Problem(
            block_path(step),
            f"step '{step.name}' reads '{volume}' block by block as step '{writer.name}' wrote it, "
            f"so both need the same block; got {triple_text(step.block)} and "
            f"{triple_text(writer.block)}",
        )


def check_declared(volume: str, spec: VolumeSpec) -> Iterator[Problem]:
    """Check that the declaration of a volume that a step writes has no keys for reading."""
    for field in READ_ONLY:
        if getattr(spec, field) != VolumeSpec.model_fields[field].default:
            yield Problem(
                ("volumes", volume, field),
                f"a step writes '{volume}', but '{field}' is for reading an existing volume",
            )


def check_storable(
    pipeline: Pipeline, step: WiredStep, volume: str, target: Target
) -> Iterator[Problem]:
    """Check that the format can store a volume, and that its place is free."""
    reason = Volume.refusal(
        target.spec, target.layer, target.bounds, target.resolution, target.chunk
    )
    if reason:
        declared = is_given(pipeline, ("volumes", volume))
        place: KeyPath = ("volumes", volume) if declared else ("steps", step.number)
        yield Problem(place, f"step '{step.name}' cannot write '{volume}': {reason}")


def is_given(pipeline: Pipeline, path: KeyPath) -> bool:
    """Whether a key stands in the pipeline's file, or was set by an option."""
    return path in pipeline.where.lines or path in pipeline.where.options


def same_resolution(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two resolutions are equal up to the rounding of a format's metadata."""
    return bool(np.allclose(one, other, rtol=1e-4, atol=0.0))


def check_resolution(
    name: str,
    resolution: Resolution | None,
    expected: Resolution,
    optional_for: str = "",
    downsample: Triple = (1, 1, 1),
) -> Iterator[Problem]:
    """Check a volume's resolution against that of the run.

    `optional_for` names the steps that read it and can do without it, if all of them can.
    `downsample` are its stored voxels per voxel.
    """
    if resolution is not None and not same_resolution(resolution, expected):
        advice = f"another level (volumes.{name}.level) may have it"
        if any(factor > 1 for factor in downsample):
            advice += f", or other factors than downsample: {list(downsample)}"
        if optional_for:
            advice += f"; {optional_for} can do without '{name}': leave it out, or resample it"
        yield Problem(
            ("volumes", name),
            f"resolution {triple_text(resolution)} nm; expected that of the run, "
            f"{triple_text(expected)} nm; {advice}",
        )


def check_bounds(
    pipeline: Pipeline, name: str, extent: Box, bounds: Box, downsample: Triple = (1, 1, 1)
) -> Iterator[Problem]:
    """Check that the run's bounds are inside a volume; `downsample` as for `check_resolution`."""
    if not extent.covers(bounds):
        place: KeyPath = ("bounds",) if is_given(pipeline, ("bounds",)) else ("volumes", name)
        text = f"bounds {bounds} extend beyond volume '{name}', which is {extent}"
        if any(factor > 1 for factor in downsample):
            text += f" in voxels of {triple_text(downsample)} stored ones (downsample)"
        yield Problem(place, text)
