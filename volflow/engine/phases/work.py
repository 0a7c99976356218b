"""One block: read, call the stage's pure function, write.

`run_block` is the same in a child process of a Dask worker and in a plain loop in the driver;
`ranges` calls it for many blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import (
    Columns,
    Grouping,
    HaloRegion,
    Layer,
    PreviousRound,
    Record,
    Reduction,
)
from volflow.engine.estimate.subvolume import MirroredVolume
from volflow.engine.job import Job, RecordSource, SkeletonSource, Source, Target
from volflow.engine.phases import group as shuffle
from volflow.errors import BlockError
from volflow.io.formats.stored_array import tiles
from volflow.io.run.records import Records
from volflow.io.skeletons.placed_nodes import placed_nodes
from volflow.io.volume import Volume, open_cached

HALO_FACES: dict[str, tuple[bool, bool]] = {
    "faces": (True, True),
    "before": (True, False),
    "after": (False, True),
}
"""Which faces of a block belong to what is read around it: those before it, those after it."""


class Given(NamedTuple):
    """What a block of a map is given; `inputs` is None where the mask leaves nothing to do."""

    mask: np.ndarray | None
    inputs: dict[str, Any] | None


def run_block(job: Job, number: int, read: Callable[[int], Given] | None = None) -> dict[str, int]:
    """Do one block of a job and write what it makes.

    Parameters
    ----------
    job : Job
    number : int
    read : callable, optional
        Gives what a block of a map reads; default: it is read now.

    Returns
    -------
    dict
        Costs: `voxels`, `empty` (1 if nothing was to be done under the mask), for a reduction
        also `passed_bytes` and the length of each column it passed up.
    """
    block = job.phase.grid[number]
    if job.phase.part is not None:
        return _map_in_parts(job, block)
    if job.phase.kind == "map":
        return _map(job, block, read(number) if read else read_block(job, number))
    return _WORK[job.phase.kind](job, block)


def read_block(job: Job, number: int) -> Given:
    """What a block of a map reads; may be done in another thread, ahead of time."""
    return _read(job, job.phase.grid[number])


def _read(job: Job, block: Block) -> Given:
    mask = _mask(job, block)
    if mask is not None and job.phase.zoom == (1, 1, 1) and not block.crop(mask).any():
        return Given(mask, None)
    return Given(mask, _inputs(job, block))


def _map(job: Job, block: Block, given: Given) -> dict[str, int]:
    mask, arguments = given
    if arguments is None:
        _write(job, block, _nothing(job, block), None)
        return {"voxels": block.write.size, "empty": 1}
    if job.stage.takes_mask():
        arguments["mask"] = mask
    outputs = job.stage.run(block, **arguments)
    _write(job, block, outputs, None if job.stage.takes_mask() else mask)
    return {"voxels": block.write.size, "empty": 0}


def _map_in_parts(job: Job, block: Block) -> dict[str, int]:
    """A block of a coarser scale; only a part of what it stands for is in memory at a time."""
    source = next(iter(job.sources.values()))
    assert isinstance(source, Source)
    outputs: dict[str, np.ndarray] = {}
    for box in tiles(block.write, job.phase.part_of(_open(source).chunk), block.write.start):
        part = replace(block, write=box, read=box.grow(job.phase.grid.halo))
        mask, arguments = _read(job, part)
        assert arguments is not None  # the mask counts at the finest scale only
        if job.stage.takes_mask():
            arguments["mask"] = mask
        for name, array in job.stage.run(part, **arguments).items():
            assert isinstance(array, np.ndarray)  # what zooms writes volumes
            layer = job.targets[name].layer
            found = _over_write_box(type(job.stage).__name__, name, layer, part, array)
            if name not in outputs:
                outputs[name] = np.empty((*found.shape[:-3], *block.write.shape), found.dtype)
            outputs[name][(..., *box.within(block.write))] = found
    _write(job, block, outputs, None)
    return {"voxels": block.write.size, "empty": 0}


def _leaf(job: Job, block: Block) -> dict[str, int]:
    stage, phase = _reduction(job), job.phase
    arguments, empty = _masked(job, block)
    previous = None
    if phase.previous:
        previous = _previous(job, block.index)._replace(neighbour_records=_beside(job, block))
    up = stage.leaf(block, phase.round_name, previous, **arguments)
    _pass_up(job, block.index, up.passed, up.retained)
    return {"voxels": block.write.size, "empty": int(empty), **_passed(up.passed)}


def _rows(job: Job, block: Block) -> dict[str, int]:
    assert isinstance(job.stage, Grouping)
    arguments, empty = _masked(job, block)
    rows = job.stage.rows(block, **arguments)
    _records(job, "rows").write(block.index, rows)
    return {"voxels": block.write.size, "empty": int(empty)}


def _masked(job: Job, block: Block) -> tuple[dict[str, Any], bool]:
    """What a block that has to be done under the mask or not is given, and whether it is empty."""
    mask = _mask(job, block)
    empty = mask is not None and not block.crop(mask).any()
    arguments = _inputs(job, block, blank=empty)
    if job.stage.takes_mask():
        arguments["mask"] = mask
    elif mask is not None:
        for name, array in arguments.items():
            if isinstance(array, np.ndarray):
                inside = block.crop(mask) if _around(job, name) == "nothing" else mask
                array *= inside.astype(array.dtype)
    return arguments, empty


def _join(job: Job, block: Block) -> dict[str, int]:
    stage, phase = _reduction(job), job.phase
    records = _records(job, f"{phase.round_name}.up.{phase.level - 1}")
    children = [records.read(child.index) for child in _children(job, block)]
    up = stage.join(block, phase.round_name, children)
    _pass_up(job, block.index, up.passed, up.retained)
    return {"voxels": block.write.size, "empty": 0, **_passed(up.passed)}


def _split(job: Job, block: Block) -> dict[str, int]:
    stage, phase = _reduction(job), job.phase
    kept = _records(job, f"{phase.round_name}.kept.{phase.level}").read(block.index)
    received = None
    if not phase.root:
        received = _records(job, f"{phase.round_name}.down.{phase.level}").read(block.index)
    children = _children(job, block)
    parts = stage.split(block, phase.round_name, kept, received)
    if len(parts) != len(children):
        raise BlockError(
            f"{type(stage).__name__}.split gave {len(parts)} records for {len(children)} children"
        )
    records = _records(job, f"{phase.round_name}.down.{phase.level - 1}")
    for child, part in zip(children, parts, strict=True):
        records.write(child.index, part)
    return {"voxels": block.write.size, "empty": 0}


def _finish(job: Job, block: Block) -> dict[str, int]:
    outputs = _reduction(job).finish(block, _previous(job, block.index))
    _write(job, block, outputs, None)
    return {"voxels": block.write.size, "empty": 0}


_WORK: dict[str, Callable[[Job, Block], dict[str, int]]] = {
    "leaf": _leaf,
    "join": _join,
    "split": _split,
    "finish": _finish,
    "rows": _rows,
    "gather": shuffle.gather,
    "group": shuffle.group,
}


# --- what a block reads --------------------------------------------------------------------------


def _inputs(job: Job, block: Block, blank: bool = False) -> dict[str, Any]:
    """The stage's inputs by name; those that the pass does not read are None."""
    wanted = job.stage.reads(job.phase)
    found: dict[str, Any] = {}
    for name, required in job.stage.inputs().items():
        source = job.sources.get(name)
        halo_region = _around(job, name)
        box = (block.write if halo_region == "nothing" else block.read).zoom_in(job.phase.zoom)
        if source is None or name not in wanted:
            if source is not None or not required:
                found[name] = None
        elif isinstance(source, SkeletonSource):
            place = (source.path, source.content, source.bounds, source.resolution)
            found[name] = placed_nodes(*place).near(block)
        elif isinstance(source, RecordSource):
            path = _record_path(source.step, source.digest, source.output)
            found[name] = Records(job.run, path).read(block.index)
        elif blank:
            volume = _open(source)
            leading = (volume.channels,) if volume.channels else ()
            found[name] = np.zeros((*leading, *box.shape), volume.dtype)
        elif halo_region in HALO_FACES and job.phase.zoom == (1, 1, 1):
            found[name] = _over_star(_open(source), block, block.star(*HALO_FACES[halo_region]))
        else:
            found[name] = _open(source).read(box)
    return found


def _around(job: Job, name: str) -> HaloRegion:
    """How much of the halo of an input is read."""
    return job.stage.wants.get(name, Layer()).halo_region


def _over_star(volume: Volume | MirroredVolume, block: Block, star: Sequence[Box]) -> np.ndarray:
    """An array over the read box: what lies in some parts of it; 0 elsewhere."""
    leading = (volume.channels,) if volume.channels else ()
    found = np.zeros((*leading, *block.read.shape), volume.dtype)
    for part in star:
        part = part.clip(volume.bounds)
        if part.size:
            volume.read(part, out=found[(..., *part.within(block.read))])
    return found


def _mask(job: Job, block: Block) -> np.ndarray | None:
    """Where voxels of the read box are to be worked on, bool; None if everywhere.

    In a pass that zooms out (a pyramid) only the bounds count: the finest scale was masked.
    """
    zoom = job.phase.zoom
    if zoom != (1, 1, 1):
        source = next(iter(job.sources.values()))
        assert isinstance(source, Source)
        bounds, box = _open(source).bounds, block.read.zoom_in(zoom)
        if bounds.covers(box):
            return None
        inside = np.zeros(box.shape, bool)
        inside[box.clip(bounds).within(box)] = True
        return inside
    if job.mask is None:
        return None
    box = block.read
    allowed = np.ones(box.shape, bool)
    if job.mask.spec is not None:
        allowed = _coarse_mask(open_cached(job.mask.spec, False), job.mask.zoom, box)
    for section in job.mask.bad_sections:
        if box.start[0] <= section < box.stop[0]:
            allowed[section - box.start[0]] = False
    return allowed


def _coarse_mask(volume: Volume, zoom: Triple, box: Box) -> np.ndarray:
    """Upsample the mask over a box from the voxels of a coarser volume."""
    coarse = box.zoom_out(zoom)
    allowed = volume.read(coarse) != 0
    if volume.channels:
        allowed = allowed.any(axis=0)
    for axis, factor in enumerate(zoom):
        allowed = np.repeat(allowed, factor, axis=axis)
    return np.ascontiguousarray(allowed[box.within(coarse.zoom_in(zoom))])


def _open(source: Source) -> Volume | MirroredVolume:
    volume = open_cached(source.spec, source.own)
    return volume if source.whole is None else MirroredVolume(volume, source.whole)


def _previous(job: Job, index: Triple) -> PreviousRound:
    """A block's own part of the round before this pass."""
    stage, name = _reduction(job), job.phase.previous
    kept = _records(job, f"{name}.kept.0").read(index)
    under = stage.base_round(name)
    if under:
        kept = {**_records(job, f"{under}.kept.0").read(index), **kept}
    received = None
    if stage.descends and len(stage.tree(name, job.phase.grid)) > 1:
        received = _records(job, f"{name}.down.0").read(index)
    return PreviousRound(kept, received)


def _beside(job: Job, block: Block) -> dict[Triple, PreviousRound]:
    """The parts of the round before that a leaf asks for, by where they lie from it."""
    found, grid = {}, job.phase.grid
    for offset in _reduction(job).neighbour_records(block, job.phase.round_name):
        index = block.index + offset
        if all(0 <= i < n for i, n in zip(index, grid.counts, strict=True)):
            found[offset] = _previous(job, index)
    return found


def _children(job: Job, block: Block) -> list[Block]:
    assert job.phase.below is not None
    return job.phase.below.children(block)


def _reduction(job: Job) -> Reduction:
    assert isinstance(job.stage, Reduction)
    return job.stage


# --- what a block writes -------------------------------------------------------------------------


def _record_path(step: str, digest: str, name: str) -> str:
    return f"records/{step}/{digest}/{name}"


def _records(job: Job, name: str) -> Records:
    return Records(job.run, _record_path(job.step, job.digest, name))


def _pass_up(job: Job, index: Triple, passed: Record, kept: Record) -> None:
    phase = job.phase
    _records(job, f"{phase.round_name}.kept.{phase.level}").write(index, kept)
    _records(job, f"{phase.round_name}.up.{phase.level}").write(index, passed)


def _passed(record: Record) -> dict[str, int]:
    """Bytes and column lengths of a record that was passed up."""
    sizes = {f"passed.{name}": len(column) for name, column in record.items()}
    return {"passed_bytes": sum(column.nbytes for column in record.values()), **sizes}


def _nothing(job: Job, block: Block) -> dict[str, Any]:
    """The outputs of a block where there is nothing to do."""
    outputs: dict[str, Any] = {}
    for name, declared in job.stage.outputs.items():
        if isinstance(declared, Columns):
            outputs[name] = {column: np.zeros(0, dtype) for column, dtype in declared.dtypes}
        else:
            layer = job.targets[name].layer
            leading = (layer.channels,) if layer.channels else ()
            outputs[name] = np.zeros((*leading, *block.write.shape), layer.dtype)
    return outputs


def _write(job: Job, block: Block, outputs: Mapping[str, Any], mask: np.ndarray | None) -> None:
    """Check the outputs against what the stage declares, then write all of them."""
    stage = type(job.stage).__name__
    if set(outputs) != set(job.stage.outputs):
        raise BlockError(
            f"{stage} declares the outputs {sorted(job.stage.outputs)} "
            f"and returned {sorted(outputs)}"
        )
    volumes, records = [], []
    for name, declared in job.stage.outputs.items():
        if isinstance(declared, Columns):
            _check_columns(stage, name, declared, outputs[name])
            records.append((name, outputs[name]))
        else:
            array = _over_write_box(stage, name, job.targets[name].layer, block, outputs[name])
            if mask is not None:
                array = np.where(block.crop(mask), array, np.zeros((), array.dtype))
            volumes.append((job.targets[name], array))
    for target, array in volumes:
        _open_target(target).write(block.write, array)
    for name, record in records:
        _records(job, name).write(block.index, record)


def _open_target(target: Target) -> Volume:
    """Open a volume that is being written, at the scale of the target."""
    return open_cached(target.spec.model_copy(update={"level": target.scale}), True)


def _over_write_box(
    stage: str, name: str, layer: Layer, block: Block, array: np.ndarray
) -> np.ndarray:
    leading = (layer.channels,) if layer.channels else ()
    if array.dtype != np.dtype(layer.dtype):
        raise BlockError(
            f"{stage} declares output '{name}' as {layer.dtype} and returned {array.dtype}"
        )
    if array.shape == (*leading, *block.write.shape):
        return array
    if array.shape == (*leading, *block.read.shape):
        return block.crop(array)
    raise BlockError(
        f"{stage} returned output '{name}' of shape {array.shape}; expected the write box "
        f"{(*leading, *block.write.shape)} or the read box {(*leading, *block.read.shape)}"
    )


def _check_columns(stage: str, name: str, columns: Columns, record: Record) -> None:
    wanted = dict(columns.dtypes)
    found = {key: str(column.dtype) for key, column in record.items()}
    if found != {key: str(np.dtype(dtype)) for key, dtype in wanted.items()}:
        raise BlockError(f"{stage} declares columns {wanted} for '{name}' and returned {found}")
