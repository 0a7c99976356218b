"""Stages run in memory, phase by phase, as the engine runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.stage import Columns, Layer, Phase, PreviousRound, Record, Reduction, Stage
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments
from volflow.stages.relabel import Relabel


class Memory:
    """Arrays over absolute boxes, 0 outside, and records by block."""

    def __init__(self, arrays: Mapping[str, tuple[np.ndarray, Triple]]) -> None:
        self.arrays = dict(arrays)
        self.records: dict[tuple[str, Triple], Record] = {}
        self.passed: dict[str, dict[str, int]] = {}

    def read(self, name: str, box: Box) -> np.ndarray:
        array, offset = self.arrays[name]
        sides = array.shape[-3:]
        whole = Box(offset, tuple(o + n for o, n in zip(offset, sides, strict=True)))
        actual = np.zeros((*array.shape[:-3], *box.shape), array.dtype)
        known = box.clip(whole)
        if known.size:
            actual[(..., *known.within(box))] = array[(..., *known.within(whole))]
        return actual

    def write(self, name: str, box: Box, values: np.ndarray) -> None:
        array, offset = self.arrays[name]
        array[(..., *box.shift(tuple(-o for o in offset)).slices)] = values


def copied(record: Record) -> Record:
    """A record as it comes back from storage: plain arrays of one dimension that own their data."""
    for name, column in record.items():
        assert isinstance(column, np.ndarray), f"column {name} is {type(column)}"
        assert column.ndim == 1, f"column {name} has {column.ndim} dimensions"
        assert column.dtype.kind in "iuf", f"column {name} is {column.dtype}"
    return {name: column.copy() for name, column in record.items()}


def run_stage(
    stage: Stage,
    grid: BlockGrid,
    memory: Memory,
    wires: Mapping[str, str],
    mask: tuple[np.ndarray, Triple] | None = None,
) -> None:
    """Run every phase of a stage over a grid (without halo) of blocks."""
    laid = BlockGrid(grid.bounds, grid.shape, stage.halo)
    assert stage.check(laid) == []
    for name, declared in stage.outputs.items():
        if isinstance(declared, Layer):
            leading = (declared.channels,) if declared.channels else ()
            empty = np.zeros((*leading, *grid.bounds.shape), declared.dtype)
            memory.arrays[name] = (empty, grid.bounds.start)
    if mask is not None:
        memory.arrays["mask"] = mask
    own: dict[tuple[str, Triple], Record] = {}
    for phase in stage.phases(laid):
        run_phase(stage, phase, memory, wires, own, mask is not None)


def run_phase(
    stage: Stage,
    phase: Phase,
    memory: Memory,
    wires: Mapping[str, str],
    own: dict[tuple[str, Triple], Record],
    masked: bool,
) -> None:
    count: dict[str, int] = {}
    for block in phase.grid:
        if phase.kind in ("map", "leaf"):
            mask = memory.read("mask", block.read).astype(bool) if masked else None
            inputs = _inputs(stage, phase, memory, wires, block, mask)
            empty = mask is not None and not block.crop(mask).any()
            if stage.takes_mask():
                inputs["mask"] = mask
        if phase.kind == "map":
            outputs = _nothing(stage, block.write) if empty else stage.run(block, **inputs)
            _write(stage, memory, block, outputs)
            continue
        assert isinstance(stage, Reduction)
        at, level = block.index, phase.level
        if phase.kind in ("leaf", "join"):
            if phase.kind == "leaf":
                previous = _previous(stage, phase, block.index, own)
                if previous is not None:
                    previous = previous._replace(
                        neighbour_records=_neighbour_records(stage, phase, block, own)
                    )
                up = stage.leaf(block, phase.round_name, previous, **inputs)
            else:
                below = phase.below.children(block)
                parts = [own[f"{phase.round_name}.up.{level - 1}", child.index] for child in below]
                up = stage.join(block, phase.round_name, [copied(part) for part in parts])
            own[f"{phase.round_name}.up.{level}", at] = copied(up.passed)
            own[f"{phase.round_name}.kept.{level}", at] = copied(up.retained)
            for name in ("id", "a", "pending_node", "piece"):
                count[name] = count.get(name, 0) + len(up.passed.get(name, ()))
            count["bytes"] = count.get("bytes", 0) + sum(c.nbytes for c in up.passed.values())
        elif phase.kind == "split":
            remaining = copied(own[f"{phase.round_name}.kept.{level}", at])
            received = None
            if not phase.root:
                received = copied(own[f"{phase.round_name}.down.{level}", at])
            below = phase.below.children(block)
            handed = stage.split(block, phase.round_name, remaining, received)
            for child, part in zip(below, handed, strict=True):
                own[f"{phase.round_name}.down.{level - 1}", child.index] = copied(part)
        else:
            _write(
                stage, memory, block, stage.finish(block, _previous(stage, phase, block.index, own))
            )
    if count:
        memory.passed[phase.name] = {"nodes": len(phase.grid), **count}


def _previous(stage, phase, index, own) -> PreviousRound | None:
    if not phase.previous:
        return None
    received = None
    bare = BlockGrid(phase.grid.bounds, phase.grid.shape)
    if len(stage.tree(phase.previous, bare)) > 1:
        received = copied(own[f"{phase.previous}.down.0", index])
    remaining = copied(own[f"{phase.previous}.kept.0", index])
    if under := stage.base_round(phase.previous):
        remaining = {**copied(own[f"{under}.kept.0", index]), **remaining}
    return PreviousRound(remaining, received)


def _neighbour_records(stage, phase, block, own) -> dict[Triple, PreviousRound]:
    actual = {}
    for offset in stage.neighbour_records(block, phase.round_name) if phase.previous else ():
        index = tuple(i + n for i, n in zip(block.index, offset, strict=True))
        actual[offset] = _previous(stage, phase, index, own)
    return actual


def _inputs(stage, phase, memory, wires, block, mask) -> dict[str, object]:
    actual: dict[str, object] = {}
    reads = stage.reads(phase)
    for name in stage.inputs():
        source = wires.get(name, name)
        if name not in reads:
            actual[name] = None
        elif (source, block.index) in memory.records:
            actual[name] = copied(memory.records[source, block.index])
        else:
            halo_region = stage.wants.get(name, Layer()).halo_region
            array = memory.read(source, block.write if halo_region == "nothing" else block.read)
            if halo_region in ("faces", "before", "after"):
                array = array * on_faces(block, halo_region != "after", halo_region != "before")
            if mask is not None and not stage.takes_mask():
                array = array * (block.crop(mask) if halo_region == "nothing" else mask).astype(
                    array.dtype
                )
            actual[name] = array
    return actual


def on_faces(block: Block, before: bool = True, after: bool = True) -> np.ndarray:
    """Mask of the block and of the voxels straight before or after it; uint8 over the read box."""
    actual = np.zeros(block.read.shape, np.uint8)
    for axis in range(3):
        place = list(block.write.within(block.read))
        inside = place[axis]
        place[axis] = slice(0 if before else inside.start, None if after else inside.stop)
        actual[tuple(place)] = 1
    return actual


def _nothing(stage: Stage, box: Box) -> dict[str, object]:
    outputs: dict[str, object] = {}
    for name, declared in stage.outputs.items():
        if isinstance(declared, Columns):
            outputs[name] = {column: np.zeros(0, dtype) for column, dtype in declared.dtypes}
        else:
            outputs[name] = np.zeros(box.shape, declared.dtype)
    return outputs


def _write(stage, memory, block, outputs) -> None:
    assert set(outputs) == set(stage.outputs)
    for name, declared in stage.outputs.items():
        if isinstance(declared, Columns):
            record = copied(outputs[name])
            assert {c: v.dtype.name for c, v in record.items()} == dict(declared.dtypes)
            memory.records[name, block.index] = record
        else:
            assert outputs[name].dtype == declared.dtype
            assert outputs[name].shape[-3:] == block.write.shape
            memory.write(name, block.write, outputs[name])


def run_in_memory(
    fragments: Fragments,
    agglomerate: Agglomerate,
    grid: BlockGrid,
    affinity: np.ndarray,
    offset: Triple = (0, 0, 0),
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, Memory]:
    """The segmentation of a volume by blocks.

    Parameters
    ----------
    grid : BlockGrid
        Its bounds may be a part of the volume.
    affinity : uint8, (3, Z, Y, X)
        A volume that starts at the voxel `offset`.
    mask : bool, (Z, Y, X), or None
    """
    memory = Memory({"affinity": (affinity, offset)})
    where = None if mask is None else (mask.astype(np.uint8), offset)
    for stage in (fragments, agglomerate, Relabel()):
        run_stage(stage, grid, memory, {}, where)
    return memory.arrays["segmentation"][0], memory
