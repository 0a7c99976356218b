"""Measurements of a few blocks, scaled to all blocks of a run.

Time and stored bytes grow with an effort that the kind of each phase defines (`engine/phases`):

    map, leaf, rows, finish    the stage's `effort`: voxels written, or tiles computed
    chain                      the stage's `part_effort`, summed over the parts
    join, split                the stage's `node_effort`, summed over the children
    gather                     bytes of the nodes, by the stage's `node_memory`
    group                      voxels of the volume

Bytes that blocks store grow with the voxels written; bytes that nodes store grow with what their
children pass up, by the stage's `node_memory`, and for an `anchored` stage with the share of their
faces that is open. Memory is that of the process before the phase plus what the phase added. The
latter is taken as measured for blocks; for nodes it grows like the stage's formula and never
exceeds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from volflow.config import stage_answers
from volflow.core.geometry import Box
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.phases.registry import kind_of
from volflow.engine.plan.planner import PROCESS_MEMORY
from volflow.errors import PlanError

PHASE_SECONDS = 0.03  # from a phase's last block to the next one's first; measured: 0.02 to 0.04

Key = tuple[str, str, str]
"""Step, kind of phase, round."""


@dataclass
class TrialMeasurement:
    """Costs of the blocks of one kind of phase, added up."""

    blocks: int = 0
    effort: float = 0.0
    storage_effort: float = 0.0
    """The quantity that stored bytes grow with."""
    timed_effort: float = 0.0
    """The effort whose seconds are counted."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Processor seconds: not affected by other programs on the machine."""
    start: float = 0.0
    """Seconds that the first run of the first block took longer than the second (loading)."""
    start_cpu: float = 0.0
    stored: float = 0.0
    rest: int = 0
    """Bytes of the process before the phase that added most."""
    beyond: int = 0
    """Bytes at the peak beyond `rest`."""
    formula: int = 0
    """Bytes by the plan's formula for the largest of these phases, without the process."""


@dataclass
class StepEstimate:
    """The cost of a step of the whole run; `work` and `cpu` in seconds, of all workers."""

    name: str
    pool: str
    tried: int
    """Blocks that were run for the estimate."""
    work: float = 0.0
    cpu: float = 0.0
    start: float = 0.0
    """Seconds per worker, once, of loading and compiling; also `start_cpu`."""
    start_cpu: float = 0.0
    between: float = 0.0
    """Seconds between phases, whatever the number of workers."""
    stored: float = 0.0
    """Bytes after compression."""
    memory: int = 0
    """Expected peak bytes of a worker."""
    most: int = 0
    """Bytes that a worker should have, by the plan's formula."""
    unknown: list[str] = field(default_factory=list)
    """Phases that the trial was too small to have; they count as nothing."""


def estimate(
    plan: Plan, step: PlannedStep, measurements: Mapping[Key, TrialMeasurement]
) -> StepEstimate:
    """Scale the measurements of a step to all its phases."""
    blocks = sum(each.blocks for each in measurements.values())
    total = StepEstimate(step.name, step.pool, blocks)
    total.start = sum(each.start for each in measurements.values())
    total.start_cpu = sum(each.start_cpu for each in measurements.values())
    total.between = PHASE_SECONDS * len(step.jobs)
    total.most = max(step.memory.values(), default=0)
    for job in step.jobs:
        known = measurements.get(key_of(job))
        if known is None or not known.effort:
            total.unknown.append(job.phase.name)
            total.memory = max(total.memory, step.memory[job.phase.name])
            continue
        effort, storage_effort = efforts(job, step.bounds, step.bounds)
        total.work += known.seconds * effort / known.timed_effort
        total.cpu += known.cpu * effort / known.timed_effort
        if known.storage_effort:
            total.stored += known.stored * storage_effort / known.storage_effort
        total.memory = max(total.memory, _memory(known, job, step.memory[job.phase.name]))
    return total


def efforts(job: Job, bounds: Box, whole: Box) -> tuple[float, float]:
    """The quantities that the time of a job and the bytes that it stores grow with.

    Parameters
    ----------
    job, bounds, whole
        See `PhaseKind.effort`.

    Raises
    ------
    PlanError
        If the stage raises, or answers with anything but a finite number from 0 on.
    """
    kind = kind_of(job.phase)
    try:
        with stage_answers.stage_faults(job.stage):
            return kind.effort(job, bounds, whole), kind.storage_effort(job, bounds, whole)
    except stage_answers.StageFault as error:
        raise PlanError(f"step '{job.step}': {error}") from error


def largest(plan: Plan) -> list[tuple[str, str, int]]:
    """For each pool the selected step that needs most memory, and its bytes per worker."""
    by_pool: dict[str, tuple[str, int]] = {}
    for step in plan.chosen:
        memory = max(step.memory.values(), default=0)
        if memory > by_pool.get(step.pool, ("", 0))[1]:
            by_pool[step.pool] = step.name, memory
    return [(pool, *by_pool[pool]) for pool in sorted(by_pool)]


def key_of(job: Job) -> Key:
    """The key under which phases of a step are measured together."""
    return job.step, job.phase.kind, job.phase.round_name


def _memory(known: TrialMeasurement, job: Job, planned: int) -> int:
    """Peak bytes of a worker in a phase of the whole run."""
    if kind_of(job.phase).block_by_block:
        return known.rest + known.beyond
    most = planned - PROCESS_MEMORY
    grown = known.beyond * most / max(1, known.formula)
    return known.rest + int(min(grown, most))
