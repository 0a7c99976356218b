"""Rows that find their partition: gathered where blocks lie together, parted by key, grouped.

What a place sends to a partition is one record, `parts/ROUND/PARTITION/PLACE`: writers need not
know one another, and what is done twice is written twice the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Grouping, Phase, Record
from volflow.engine.job import Job
from volflow.errors import BlockError
from volflow.io.run.records import Records
from volflow.io.store import Store
from volflow.io.tables.columns import csv_of

AT_ONCE = 1 << 20  # rows that are read before they are combined
_MIX = np.uint64(0x9E3779B97F4A7C15)


def gather(job: Job, block: Block) -> dict[str, int]:
    """Combine the rows of a node's blocks and send them to the first round's partitions."""
    assert job.phase.below is not None
    stage, records = _grouping(job), Records(job.run, f"records/{job.step}/{job.digest}/rows")
    found = (records.read(child.index) for child in job.phase.below.children(block))
    rows = _combined(stage, job.phase.round_name, found)
    sent = _send(job, stage.rounds[0], block, rows)
    return {"voxels": block.write.size, "empty": 0, **sent}


def group(job: Job, block: Block) -> dict[str, int]:
    """Do one partition: everything sent to it, whoever sent it."""
    stage, phase = _grouping(job), job.phase
    assert phase.below is not None
    records = _parts(job, phase.round_name, block.index[0])
    rows = _combined(stage, phase.round_name, (records.read(b.index) for b in phase.below))
    made = stage.group(phase.round_name, rows)
    _found(job, phase).write(block.index, made.partial)
    if phase.root:
        return {"voxels": block.write.size, "empty": 0, "rows": _length(rows)}
    sent = _send(job, stage.rounds[phase.level + 1], block, made.rows)
    return {"voxels": block.write.size, "empty": 0, "rows": _length(rows), **sent}


def result(jobs: Sequence[Job]) -> dict[str, Any]:
    """The result of a finished step, from what its partitions found.

    A table that the stage makes of it is written to `results/STEP.csv`.
    """
    stage = _grouping(jobs[0])
    found = {
        job.phase.round_name: [_found(job, job.phase).read(b.index) for b in job.phase.grid]
        for job in jobs
        if job.phase.kind == "group"
    }
    table = stage.table(found)
    if table:
        Store(jobs[0].run).write(f"results/{jobs[0].step}.csv", csv_of(table).encode())
    return stage.result(found)


def partition(rows: Record, key: Sequence[str], count: int) -> np.ndarray:
    """The partition of each row, int64 (N,): a hash of its key, the same on every machine."""
    mixed = np.zeros(_length(rows), np.uint64)
    for name in key:
        mixed = (mixed ^ rows[name].astype(np.uint64)) * _MIX
        mixed ^= mixed >> np.uint64(32)
    found: np.ndarray = (mixed % np.uint64(count)).astype(np.int64)
    return found


def _send(job: Job, round_name: str, place: Block, rows: Record) -> dict[str, int]:
    """Part rows by key, one record per partition, empty ones too: a missing one is an error."""
    stage = _grouping(job)
    count = _count(job)
    if not _length(rows):
        parted: list[Record] = [{}] * count
    else:
        where = partition(rows, stage.key(round_name), count)
        order = np.argsort(where, kind="stable")
        ends = np.searchsorted(where[order], np.arange(1, count))
        columns = {name: np.split(column[order], ends) for name, column in rows.items()}
        parted = [{name: parts[p] for name, parts in columns.items()} for p in range(count)]
    for number, part in enumerate(parted):
        _parts(job, round_name, number).write(place.index, part if _length(part) else {})
    return {"passed_rows": _length(rows)}


def _combined(stage: Grouping, round_name: str, records: Iterator[Record]) -> Record:
    """The rows of all records, combined whenever many have come together."""
    waiting: list[Record] = []
    length = combined = 0
    for record in records:
        if _length(record):
            waiting.append(record)
            length += _length(record)
        if length > max(AT_ONCE, 2 * combined):
            waiting = [stage.combine(round_name, _joined(waiting))]
            length = combined = _length(waiting[0])
    return stage.combine(round_name, _joined(waiting)) if waiting else {}


def _joined(records: Sequence[Record]) -> Record:
    names = list(records[0])
    if any(list(record) != names for record in records):
        raise BlockError(f"rows of one round have different columns: {[list(r) for r in records]}")
    return {name: np.concatenate([record[name] for record in records]) for name in names}


def _length(rows: Record) -> int:
    return len(next(iter(rows.values()))) if rows else 0


def _count(job: Job) -> int:
    """Partitions of a round."""
    if job.phase.kind == "group":
        return len(job.phase.grid)
    return _grouping(job).partitions(job.phase.grid.bounds)


def _parts(job: Job, round_name: str, number: int) -> Records:
    return Records(job.run, f"records/{job.step}/{job.digest}/parts/{round_name}/{number}")


def _found(job: Job, phase: Phase) -> Records:
    return Records(job.run, f"records/{job.step}/{job.digest}/found/{phase.round_name}")


def _grouping(job: Job) -> Grouping:
    assert isinstance(job.stage, Grouping)
    return job.stage
