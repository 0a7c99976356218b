"""The phases of a chain: the parts of all slabs and tiles with one number, then the next ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from volflow.config import stage_answers
from volflow.core.geometry import Block, Box, Triple, Zyx
from volflow.core.stage import Chain, ChainGrid, Layer, Onward, Phase, Record
from volflow.engine.job import Job
from volflow.engine.phases.inputs import block_mask, masked_inputs
from volflow.engine.phases.kind import BlockInputs, PhaseKind
from volflow.engine.phases.outputs import write_outputs
from volflow.engine.phases.step_records import step_records
from volflow.errors import BlockError
from volflow.io.run.records import encode

STATE = "chain.state"  # no table has this name: names of outputs have no dot


class ChainPart(PhaseKind):
    """A part of each chain: read the state of the part before, call `step`, write, store the state.

    The state is written before the part is marked as done, and it is replaced by equal bytes when
    the part is repeated.
    """

    writes_outputs = True

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        stage, states = _chain(job), step_records(job, STATE)
        before = _grid(job).previous(block.index)
        if before is None and _grid(job).number(block.index) == 0:
            _require_voxels(job)
        mask = block_mask(job, block)
        inputs = masked_inputs(job, block, mask, blank=mask is not None and not mask.any())
        onward = stage.step(block, None if before is None else states.read(before), **inputs)
        state = _checked_state(stage, onward)
        write_outputs(job, block, onward.outputs, None if stage.takes_mask() else mask)
        states.write(block.index, state)
        return {"voxels": block.write.size, "empty": 0}

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        stage = _chain(job)
        needs = [stage.part_memory(shape, job.sources) for shape in self.read_shapes(job)]
        return max(stage_answers.memory(stage, need, "part_memory") for need in needs)

    def read_shapes(self, job: Job) -> list[Zyx]:
        return [shape for _, shape in _grid(job).read_shapes()]

    def effort(self, job: Job, bounds: Box, whole: Box) -> float:
        stage = _chain(job)
        return sum(
            count * stage_answers.effort(stage, stage.part_effort(shape), "part_effort")
            for count, shape in _grid(job).made_shapes()
        )

    def storage_effort(self, job: Job, bounds: Box, whole: Box) -> float:
        return float(_grid(job).written)

    def result(self, jobs: Sequence[Job]) -> dict[str, Any]:
        stage = _chain(jobs[0])
        tables = {name: _whole_table(jobs, name) for name in stage.result_tables(jobs[0].sources)}
        return stage.result(tables) if tables else {}

    def memory_advice(self, phase: Phase, block: Triple) -> tuple[str, str]:
        return (
            f"a part of {list(block)} with its context and overlap",
            "take a smaller part or tile",
        )


def _whole_table(jobs: Sequence[Job], name: str) -> Record:
    """The rows of a table of all parts of a finished step, in the order of the phases."""
    parts = [step_records(job, name).read(block.index) for job in jobs for block in job.phase.grid]
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _require_voxels(job: Job) -> None:
    """Check that inputs of the run in which something has to be are not 0 everywhere.

    They are complete when the first part of a chain begins. Before the run, they did not exist.

    Raises
    ------
    BlockError
    """
    bounds = job.phase.grid.bounds
    for name, source in job.sources.items():
        if job.stage.wants.get(name, Layer()).not_empty and source.is_empty(bounds):
            raise BlockError(
                f"input '{name}': every voxel of {bounds} is 0; expected others, of an earlier "
                f"step of this run"
            )


def _checked_state(stage: Chain, onward: object) -> Record:
    """The state that `step` returned.

    Raises
    ------
    BlockError
        If `step` returned no `Onward`, or a state that cannot be stored.
    """
    name = type(stage).__name__
    if not isinstance(onward, Onward):
        raise BlockError(
            f"{name}.step returned a {type(onward).__name__}; expected Onward(outputs, state)"
        )
    if not isinstance(onward.state, dict):
        raise BlockError(
            f"{name}.step returned a state of type {type(onward.state).__name__}; "
            f"expected a dict of arrays"
        )
    try:
        encode(onward.state)
    except ValueError as error:
        raise BlockError(f"{name}.step returned a state that cannot be stored: {error}") from error
    return onward.state


def _chain(job: Job) -> Chain:
    assert isinstance(job.stage, Chain)
    return job.stage


def _grid(job: Job) -> ChainGrid:
    assert isinstance(job.phase.grid, ChainGrid)
    return job.phase.grid
