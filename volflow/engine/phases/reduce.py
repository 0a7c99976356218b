"""The phases of a reduction: leaves, joins up the pyramid, splits down it, and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from volflow.config import stage_answers
from volflow.core.geometry import Block, Box, Triple
from volflow.core.geometry.shapes import shape_counts
from volflow.core.stage import Phase, PreviousRound, Record, Reduction, Up
from volflow.engine.job import Job
from volflow.engine.phases.inputs import read_masked
from volflow.engine.phases.kind import BlockInputs, PhaseKind, largest_block
from volflow.engine.phases.outputs import write_outputs
from volflow.engine.phases.step_records import step_records
from volflow.errors import BlockError


class ReductionKind(PhaseKind):
    """The part that all phases of a reduction share: the result, from the last round's roots."""

    def result(self, jobs: Sequence[Job]) -> dict[str, Any]:
        stage = _reduction(jobs[0])
        if type(stage).result is Reduction.result:
            return {}
        return stage.result(root_records(jobs))


def root_records(jobs: Sequence[Job]) -> list[Record]:
    """The records that the roots of a finished reduction's last round passed."""
    roots = [job for job in jobs if job.phase.kind in ("leaf", "join") and job.phase.root]
    phase = roots[-1].phase
    records = step_records(roots[-1], f"{phase.round_name}.up.{phase.level}")
    return [records.read(block.index) for block in phase.grid]


class NodeKind(ReductionKind):
    """A node of the pyramid; its cost grows with what its children pass up."""

    block_by_block = False

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        return _reduction(job).phase_memory(job.phase, largest_block(job.phase))

    def effort(self, job: Job, bounds: Box, whole: Box) -> float:
        stage = _reduction(job)
        assert job.phase.below is not None
        return sum(
            count * _node_effort(stage, job.phase, shape, open_share)
            for count, shape, open_share in shape_counts(job.phase.below, whole)
        )

    def storage_effort(self, job: Job, bounds: Box, whole: Box) -> float:
        stage = _reduction(job)
        assert job.phase.below is not None
        return sum(
            count * _node_memory(stage, shape) * (open_share if stage.anchored else 1.0)
            for count, shape, open_share in shape_counts(job.phase.below, whole)
        )

    def memory_advice(self, phase: Phase, block: Triple) -> tuple[str, str]:
        return f"a node over {list(phase.grid.shape)} voxels", "take smaller bounds"


class Leaf(ReductionKind):
    """The record of each block, from its inputs and its own part of the previous round."""

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        stage, phase = _reduction(job), job.phase
        inputs, empty = read_masked(job, block)
        previous = None
        if phase.previous:
            previous = _previous_round(job, block.index)._replace(
                neighbour_records=_neighbour_records(job, block)
            )
        output = stage.leaf(block, phase.round_name, previous, **inputs)
        _write_node(job, block.index, output)
        return {"voxels": block.write.size, "empty": int(empty), **_passed_sizes(output.passed)}


class Join(NodeKind):
    """The record of each node, from those of its children."""

    root_settles = True

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        phase = job.phase
        records = step_records(job, f"{phase.round_name}.up.{phase.level - 1}")
        children = [records.read(child.index) for child in _children(job, block)]
        output = _reduction(job).join(block, phase.round_name, children)
        _write_node(job, block.index, output)
        return {"voxels": block.write.size, "empty": 0, **_passed_sizes(output.passed)}


class Split(NodeKind):
    """The records that each node sends to its children."""

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        stage, phase = _reduction(job), job.phase
        retained = step_records(job, f"{phase.round_name}.kept.{phase.level}").read(block.index)
        received = None
        if not phase.root:
            received = step_records(job, f"{phase.round_name}.down.{phase.level}").read(block.index)
        children = _children(job, block)
        parts = stage.split(block, phase.round_name, retained, received)
        if len(parts) != len(children):
            raise BlockError(
                f"{type(stage).__name__}.split returned {len(parts)} records "
                f"for {len(children)} children"
            )
        records = step_records(job, f"{phase.round_name}.down.{phase.level - 1}")
        for child, part in zip(children, parts, strict=True):
            records.write(child.index, part)
        return {"voxels": block.write.size, "empty": 0}


class Finish(ReductionKind):
    """The step's outputs of each block, from its part of the last round."""

    writes_outputs = True

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        outputs = _reduction(job).finish(block, _previous_round(job, block.index))
        write_outputs(job, block, outputs, None)
        return {"voxels": block.write.size, "empty": 0}


def _node_effort(stage: Reduction, phase: Phase, shape: Triple, open_share: float) -> float:
    effort = stage.node_effort(phase, shape, open_share)
    return stage_answers.effort(stage, effort, "node_effort")


def _node_memory(stage: Reduction, shape: Triple) -> float:
    return float(stage_answers.memory(stage, stage.node_memory(shape), "node_memory"))


def _previous_round(job: Job, index: Triple) -> PreviousRound:
    """A block's own part of the round before this phase."""
    stage, name = _reduction(job), job.phase.previous
    retained = step_records(job, f"{name}.kept.0").read(index)
    base = stage.base_round(name)
    if base:
        retained = {**step_records(job, f"{base}.kept.0").read(index), **retained}
    received = None
    if stage.descends and len(stage.tree(name, job.phase.grid)) > 1:
        received = step_records(job, f"{name}.down.0").read(index)
    return PreviousRound(retained, received)


def _neighbour_records(job: Job, block: Block) -> dict[Triple, PreviousRound]:
    """The parts of the previous round that a leaf asks for, by offset."""
    neighbours, counts = {}, job.phase.grid.counts
    for offset in _reduction(job).neighbour_records(block, job.phase.round_name):
        index = block.index + offset
        if all(0 <= i < n for i, n in zip(index, counts, strict=True)):
            neighbours[offset] = _previous_round(job, index)
    return neighbours


def _children(job: Job, block: Block) -> list[Block]:
    assert job.phase.below is not None
    return job.phase.below.children(block)


def _write_node(job: Job, index: Triple, output: Up) -> None:
    name, level = job.phase.round_name, job.phase.level
    step_records(job, f"{name}.kept.{level}").write(index, output.retained)
    step_records(job, f"{name}.up.{level}").write(index, output.passed)


def _passed_sizes(record: Record) -> dict[str, int]:
    """Bytes and column lengths of a record that was passed up."""
    sizes = {f"passed.{name}": len(column) for name, column in record.items()}
    return {"passed_bytes": sum(column.nbytes for column in record.values()), **sizes}


def _reduction(job: Job) -> Reduction:
    assert isinstance(job.stage, Reduction)
    return job.stage
