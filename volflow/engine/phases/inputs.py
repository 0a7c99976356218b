"""The inputs of a block: its sources read, and the mask over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from volflow.core.geometry import NO_GAPS, Block, Box
from volflow.core.stage import HaloRegion, Layer
from volflow.engine.job import Job, Mask
from volflow.engine.phases.kind import BlockInputs
from volflow.engine.phases.sources import Opened, VolumeSource
from volflow.io.volume import Volume, open_cached


def read_inputs(job: Job, block: Block) -> BlockInputs:
    """The mask and the inputs of a block; no inputs are read where the mask is empty."""
    mask = block_mask(job, block)
    if mask is not None and job.phase.zoom == (1, 1, 1) and not block.crop(mask).any():
        return BlockInputs(mask, None)
    return BlockInputs(mask, _inputs(job, block))


def read_masked(job: Job, block: Block) -> tuple[dict[str, Any], bool]:
    """The inputs of a block that has to run even if its mask is empty, and whether it is empty.

    Volumes are zero outside the mask, unless the stage takes the mask itself.
    """
    mask = block_mask(job, block)
    empty = mask is not None and not block.crop(mask).any()
    return masked_inputs(job, block, mask, blank=empty), empty


def masked_inputs(job: Job, block: Block, mask: np.ndarray | None, blank: bool) -> dict[str, Any]:
    """The inputs of a block, zero outside its mask unless the stage takes the mask itself.

    If `blank`, volumes are zeros and not read.
    """
    inputs = _inputs(job, block, blank=blank)
    if job.stage.takes_mask():
        inputs["mask"] = mask
    elif mask is not None:
        for name, array in inputs.items():
            if isinstance(array, np.ndarray):
                inside = block.crop(mask) if _halo_region(job, name) == "nothing" else mask
                array *= inside.astype(array.dtype)
    return inputs


def _inputs(job: Job, block: Block, blank: bool = False) -> dict[str, Any]:
    """The stage's inputs by name; those that the phase does not read are None."""
    reads = job.stage.reads(job.phase)
    inputs: dict[str, Any] = {}
    for name, required in job.stage.inputs().items():
        source = job.sources.get(name)
        if source is not None and name in reads:
            region = _halo_region(job, name)
            inputs[name] = source.read(job.run, job.phase, block, region, blank)
        elif source is not None or not required:
            inputs[name] = None
    return inputs


def _halo_region(job: Job, name: str) -> HaloRegion:
    """The part of the halo that is read of an input."""
    return job.stage.wants.get(name, Layer()).halo_region


def first_volume(job: Job) -> Opened:
    """The first input of a job whose phase zooms out."""
    source = next(iter(job.sources.values()))
    assert isinstance(source, VolumeSource)
    return source.open()


def block_mask(job: Job, block: Block) -> np.ndarray | None:
    """The mask over the read box, bool; None if it is true everywhere.

    In a phase that zooms out (a pyramid) only the bounds count: the finest scale was masked.
    """
    zoom = job.phase.zoom
    if zoom != (1, 1, 1):
        bounds, box = first_volume(job).bounds, block.read.zoom_in(zoom)
        if bounds.covers(box):
            return None
        inside = np.zeros(box.shape, bool)
        inside[box.clip(bounds).within(box)] = True
        return inside
    return None if job.mask is None else _mask(job.mask, block)


def _mask(planned: Mask, block: Block) -> np.ndarray:
    """The mask over the read box; with gaps, of the sections that are left, in closed z."""
    if planned.gaps:
        runs = [replace(block, read=box) for box in planned.gaps.open_runs(block.read)]
        plain = replace(planned, gaps=NO_GAPS)
        return np.concatenate([_mask(plain, run) for run in runs])
    box = block.read
    mask = np.ones(box.shape, bool)
    if planned.spec is not None:
        mask = _fine_mask(open_cached(planned.spec, False), planned, block)
    for section in planned.bad_sections:
        if box.start[0] <= section < box.stop[0]:
            mask[section - box.start[0]] = False
    return mask


def _fine_mask(volume: Volume, planned: Mask, block: Block) -> np.ndarray:
    """The mask over the read box, upsampled from a coarser volume."""
    zoom = planned.zoom
    coarse = block.read.zoom_out(zoom)
    coarse = Box(coarse.start - planned.rounded, coarse.stop)  # with the plane to repeat
    mask = volume.read(coarse) != 0
    if volume.channels:
        mask = mask.any(axis=0)
    for axis, is_rounded in enumerate(planned.rounded):
        last = volume.bounds.stop[axis] - coarse.start[axis] - 1
        if is_rounded and 0 <= last < mask.shape[axis] - 1:
            planes = np.moveaxis(mask, axis, 0)
            planes[last + 1] = planes[last]
    for axis, factor in enumerate(zoom):
        mask = np.repeat(mask, factor, axis=axis)
    return np.ascontiguousarray(mask[block.read.within(coarse.zoom_in(zoom))])
