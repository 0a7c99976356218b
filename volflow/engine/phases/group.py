"""The phases of a grouping: rows of blocks, gathered, distributed by key and grouped.

The rows that one sender has for a partition are one record, `parts/ROUND/PARTITION/SENDER`:
senders need not know one another, and repeating one writes the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from volflow.config import stage_answers
from volflow.core.geometry import Block, Box, Triple, zyx
from volflow.core.geometry.shapes import shape_counts
from volflow.core.stage import Grouping, Phase, Record
from volflow.engine.job import Job
from volflow.engine.phases.annotations import finish_annotations, write_annotations
from volflow.engine.phases.inputs import read_masked
from volflow.engine.phases.kind import BlockInputs, PhaseKind, largest_block
from volflow.engine.phases.objects_by_id import (
    OBJECT_ID,
    finish_objects,
    shard_layout,
    write_objects,
)
from volflow.engine.phases.segment_properties import finish_parts, write_part, write_properties
from volflow.engine.phases.step_records import step_records
from volflow.errors import BlockError
from volflow.io.formats.stored_array import tiles
from volflow.io.run.records import Records
from volflow.io.store import Store
from volflow.io.tables.columns import csv_of

ROWS_AT_ONCE = 1 << 20  # rows that are read before they are combined
_MIX = np.uint64(0x9E3779B97F4A7C15)


class GroupingKind(PhaseKind):
    """The part that all phases of a grouping share: the result, from the partial results."""

    def result(self, jobs: Sequence[Job]) -> dict[str, Any]:
        stage = _grouping(jobs[0])
        partials = {
            job.phase.round_name: [_partials(job).read(block.index) for block in job.phase.grid]
            for job in jobs
            if job.phase.kind == "group"
        }
        if stage.by_id is not None:
            last = partials[stage.rounds[-1]]
            ids = np.concatenate([part[OBJECT_ID] for part in last])
            finish_objects(jobs[-1], stage.by_id, ids, len(last))
        if stage.annotates:
            finish_annotations(jobs[-1], partials[stage.rounds[-1]])
        if stage.properties_of:
            write_properties(jobs[-1], stage, partials)
        if stage.writes_parquet:
            finish_parts(jobs[-1], len(partials[stage.rounds[-1]]))
        table = stage.table(partials)
        if table:
            Store(jobs[0].run).write(f"results/{jobs[0].step}.csv", csv_of(table).encode())
        return stage.result(partials)


class Rows(GroupingKind):
    """The rows of each block."""

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        stage, phase = _grouping(job), job.phase
        if phase.fine_bounds is None:
            inputs, empty = read_masked(job, block)
        else:
            inputs, empty = _coarser_inputs(job, block, phase.fine_bounds)
        rows = stage.rows_at(phase, block, **inputs)
        step_records(job, phase.name).write(block.index, rows)
        return {"voxels": block.write.size, "empty": int(empty)}


class Gather(GroupingKind):
    """The rows of adjacent blocks, combined and sent to the partitions of the first round."""

    block_by_block = False

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        assert job.phase.below is not None
        stage = _grouping(job)
        of_children = (
            step_records(job, sender.name).read(index)
            for sender in job.phase.senders
            for index in _blocks_of(sender, job.phase, block)
        )
        rows = _combined(stage, job.phase.round_name, of_children)
        count = stage.partitions(job.phase.grid.bounds)
        sent = _send(job, stage.rounds[0], block, rows, count)
        return {"voxels": block.write.size, "empty": 0, **sent}

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        return _grouping(job).node_memory(largest_block(job.phase))

    def effort(self, job: Job, bounds: Box, whole: Box) -> float:
        stage = _grouping(job)
        counts = shape_counts(job.phase.grid, whole)
        return sum(
            count * float(stage_answers.memory(stage, stage.node_memory(shape), "node_memory"))
            for count, shape, _ in counts
        )

    def storage_effort(self, job: Job, bounds: Box, whole: Box) -> float:
        return self.effort(job, bounds, whole)

    def memory_advice(self, phase: Phase, block: Triple) -> tuple[str, str]:
        return f"a node over {list(phase.grid.shape)} voxels", "take smaller bounds"


class GroupRows(GroupingKind):
    """Each partition of a round: all rows sent to it, grouped."""

    block_by_block = False

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        stage, phase = _grouping(job), job.phase
        assert phase.below is not None
        records = step_records(job, f"parts/{phase.round_name}/{block.index[0]}")
        sent_here = (records.read(sender.index) for sender in phase.below)
        rows = _combined(stage, phase.round_name, sent_here)
        output = stage.group(phase.round_name, rows)
        partial = output.partial
        if phase.root and stage.by_id is not None:
            number, count = block.index[0], len(phase.grid)
            ids = write_objects(job, stage.by_id, output.objects, number, count)
            partial = {**partial, OBJECT_ID: ids}
        if phase.root and stage.writes_parquet:
            write_part(job, stage, partial, block.index[0])
        if output.annotations is not None:
            partial = {**partial, **write_annotations(job, output.annotations)}
        _partials(job).write(block.index, partial)
        costs = {"voxels": block.write.size, "empty": 0, "rows": _length(rows)}
        if phase.root:
            return costs
        following = stage.rounds[phase.level + 1]
        return costs | _send(job, following, block, output.rows, len(phase.grid))

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        return _grouping(job).group_memory(bounds)

    def effort(self, job: Job, bounds: Box, whole: Box) -> float:
        return float(bounds.size)

    def storage_effort(self, job: Job, bounds: Box, whole: Box) -> float:
        return float(bounds.size)

    def memory_advice(self, phase: Phase, block: Triple) -> tuple[str, str]:
        return "one partition", "take smaller bounds"


def partition(rows: Record, key: Sequence[str], count: int) -> np.ndarray:
    """The partition of each row, int64 (N,): a hash of its key, the same on every machine."""
    mixed = np.zeros(_length(rows), np.uint64)
    for name in key:
        mixed = (mixed ^ rows[name].astype(np.uint64)) * _MIX
        mixed ^= mixed >> np.uint64(32)
    numbers: np.ndarray = (mixed % np.uint64(count)).astype(np.int64)
    return numbers


def _coarser_inputs(job: Job, block: Block, bounds: Box) -> tuple[dict[str, Any], bool]:
    """The inputs of a block at a coarser scale, part by part, and whether all parts are masked."""
    stage, phase = _grouping(job), job.phase
    assert phase.part is not None
    fine_job = replace(job, phase=replace(phase, zoom=(1, 1, 1)))
    inputs: dict[str, Any] = {}
    empty = True
    for box in tiles(block.read, phase.part, block.read.start):
        fine = box.zoom_in(phase.zoom)
        part = Block(block.index, fine, fine, bounds)
        read, masked = read_masked(fine_job, part)
        empty = empty and masked
        for name, array in stage.coarser(part, phase.zoom, **read).items():
            if name not in inputs:
                inputs[name] = np.zeros(block.read.shape, array.dtype)
            inputs[name][box.within(block.read)] = array
    return inputs, empty


def _blocks_of(sender: Phase, gather: Phase, node: Block) -> Iterator[Triple]:
    """The indices of a sender's blocks whose rows a node gathers: those that begin in it.

    Blocks of a coarser scale may begin outside the bounds of the finest one; they count to the
    nearest node.
    """
    finest = gather.senders[0]
    owned = []
    for axis in range(3):
        relative = sender.zoom[axis] // finest.zoom[axis]
        low, side = sender.grid.bounds.start[axis], sender.grid.shape[axis]
        starts = (low + side * np.arange(sender.grid.counts[axis])) * relative
        owner = (starts - gather.grid.bounds.start[axis]) // gather.grid.shape[axis]
        owner = owner.clip(0, gather.grid.counts[axis] - 1)
        owned.append(np.flatnonzero(owner == node.index[axis]).tolist())
    return map(zyx, itertools.product(*owned))


def _send(
    job: Job, round_name: str, sender: Block, rows: Record, partitions: int
) -> dict[str, int]:
    """Distribute rows by key, one record per partition; empty ones too, as a missing one fails."""
    if not _length(rows):
        parts: list[Record] = [{}] * partitions
    else:
        numbers = _partition_of(_grouping(job), round_name, rows, partitions)
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(1, partitions))
        columns = {name: np.split(column[order], ends) for name, column in rows.items()}
        parts = [{name: pieces[p] for name, pieces in columns.items()} for p in range(partitions)]
    for number, part in enumerate(parts):
        records = step_records(job, f"parts/{round_name}/{number}")
        records.write(sender.index, part if _length(part) else {})
    return {"passed_rows": _length(rows)}


def _partition_of(stage: Grouping, round_name: str, rows: Record, partitions: int) -> np.ndarray:
    """The partition of each row; with objects by id in the last round, the shard of its id."""
    key = stage.key(round_name)
    if stage.by_id is None or round_name != stage.rounds[-1]:
        return partition(rows, key, partitions)
    return shard_layout(partitions).shard_of(rows[key[0]]).astype(np.int64)


def _combined(stage: Grouping, round_name: str, records: Iterator[Record]) -> Record:
    """The rows of all records, combined each time that many have accumulated."""
    waiting: list[Record] = []
    length = combined = 0
    for record in records:
        if _length(record):
            waiting.append(record)
            length += _length(record)
        if length > max(ROWS_AT_ONCE, 2 * combined):
            waiting = [stage.combine(round_name, _concatenated(waiting))]
            length = combined = _length(waiting[0])
    return stage.combine(round_name, _concatenated(waiting)) if waiting else {}


def _concatenated(records: Sequence[Record]) -> Record:
    names = list(records[0])
    if any(list(record) != names for record in records):
        raise BlockError(f"rows of one round have different columns: {[list(r) for r in records]}")
    return {name: np.concatenate([record[name] for record in records]) for name in names}


def _length(rows: Record) -> int:
    return len(next(iter(rows.values()))) if rows else 0


def _partials(job: Job) -> Records:
    """The partial results of a round's partitions."""
    return step_records(job, f"found/{job.phase.round_name}")


def _grouping(job: Job) -> Grouping:
    assert isinstance(job.stage, Grouping)
    return job.stage
