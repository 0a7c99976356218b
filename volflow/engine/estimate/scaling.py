"""What was measured of a few blocks, scaled to all blocks of a pass.

    map, leaf, rows, finish    the stage's `effort`: voxels written, or tiles computed
    join, split                the stage's `node_effort`, summed over the children
    gather                     bytes of the nodes, by the stage's `node_memory`
    group                      voxels of the volume

Bytes that blocks store grow with the voxels written, those that nodes store with what their
children pass up, by the stage's `node_memory`; of a stage that is `anchored`, as far as their faces
are open. Memory is what the process had before the pass, and what the pass took beyond that. The
latter is that of a block; of a node it grows as the stage's formula, and is never said to be more
than it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from volflow.core.geometry import Box
from volflow.core.stage import Grouping, Phase, Reduction, Stage
from volflow.engine.estimate.subvolume import kinds
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.plan.planner import PROCESS

BLOCK_BY_BLOCK = ("map", "leaf", "rows", "finish")
PASS_SECONDS = 0.03  # from a pass's last block to the next one's first; measured: 0.02 to 0.04

Key = tuple[str, str, str]
"""Step, kind of pass, round."""


@dataclass
class TrialMeasurement:
    """What the blocks of one kind of pass took, all together."""

    blocks: int = 0
    units: float = 0.0
    passed: float = 0.0
    """What the bytes that nodes store grow with."""
    written: int = 0
    """Voxels of the grids, by which what blocks store is scaled."""
    timed: float = 0.0
    """Those units whose seconds are counted."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processors: what counts on a machine that others use, too."""
    start: float = 0.0
    """Seconds that the first block took longer than when it was done again: what is loaded."""
    start_cpu: float = 0.0
    stored: float = 0.0
    rest: int = 0
    """Bytes of the process before the pass that took most beyond that."""
    beyond: int = 0
    """Bytes at the peak beyond `rest`."""
    formula: int = 0
    """What the plan says of the largest of these passes, without the process."""


@dataclass
class StepEstimate:
    """What a step of the whole run will take: `work` and `cpu` in seconds, of all workers."""

    name: str
    pool: str
    tried: int
    """Blocks that were done to find out."""
    work: float = 0.0
    cpu: float = 0.0
    start: float = 0.0
    """Seconds, and `start_cpu`, that each worker takes once: what is loaded and compiled."""
    start_cpu: float = 0.0
    between: float = 0.0
    """Seconds in which passes begin and end, whatever the number of workers."""
    stored: float = 0.0
    """Bytes after compression."""
    memory: int = 0
    """Bytes of a worker at its peak, as they are expected."""
    most: int = 0
    """Bytes that a worker is to have: what `plan` says."""
    unknown: list[str] = field(default_factory=list)
    """Passes that so few blocks do not have; they count as nothing."""


def estimate(plan: Plan, step: PlannedStep, tried: dict[Key, TrialMeasurement]) -> StepEstimate:
    """Scale what was tried of a step to all its passes."""
    found = StepEstimate(step.name, step.pool, sum(each.blocks for each in tried.values()))
    found.start = sum(each.start for each in tried.values())
    found.start_cpu = sum(each.start_cpu for each in tried.values())
    found.between = PASS_SECONDS * len(step.jobs)
    found.most = max(step.memory.values(), default=0)
    for job in step.jobs:
        known = tried.get(key_of(job))
        if known is None or not known.units:
            found.unknown.append(job.phase.name)
            found.memory = max(found.memory, step.memory[job.phase.name])
            continue
        all_units = units(step.stage, job.phase, plan.bounds, plan.bounds)
        found.work += known.seconds * all_units / known.timed
        found.cpu += known.cpu * all_units / known.timed
        written = job.phase.grid.bounds.size / known.written
        by_block = job.phase.kind in BLOCK_BY_BLOCK
        if not by_block:
            written = passed(step.stage, job.phase, plan.bounds, plan.bounds) / known.passed
        found.stored += known.stored * written
        found.memory = max(found.memory, _memory(known, job, step.memory[job.phase.name]))
    return found


def largest(plan: Plan) -> list[tuple[str, str, int]]:
    """For each pool the chosen step that needs most memory, and its bytes for one worker."""
    found: dict[str, tuple[str, int]] = {}
    for step in plan.chosen:
        needs = max(step.memory.values(), default=0)
        if needs > found.get(step.pool, ("", 0))[1]:
            found[step.pool] = step.name, needs
    return [(pool, *found[pool]) for pool in sorted(found)]


def key_of(job: Job) -> Key:
    """What passes of one step are alike in."""
    return job.step, job.phase.kind, job.phase.round_name


def units(stage: Stage, phase: Phase, bounds: Box, whole: Box) -> float:
    """What the cost of a pass over bounds, a part of the whole or all of it, grows with."""
    if phase.kind in BLOCK_BY_BLOCK:
        return stage.effort(phase.grid, whole)
    if phase.below is None or not isinstance(stage, Reduction):
        return passed(stage, phase, bounds, whole)
    return sum(
        count * stage.node_effort(phase, shape, open_)
        for count, shape, open_ in kinds(phase.below, whole)
    )


def passed(stage: Stage, phase: Phase, bounds: Box, whole: Box) -> float:
    """What the bytes that nodes of a pass are given, and store, grow with."""
    if phase.kind == "gather" and isinstance(stage, Grouping):
        return sum(n * float(stage.node_memory(s)) for n, s, _ in kinds(phase.grid, whole))
    if phase.below is None or not isinstance(stage, Reduction):
        return float(bounds.size)
    return sum(
        count * float(stage.node_memory(shape)) * (open_ if stage.anchored else 1.0)
        for count, shape, open_ in kinds(phase.below, whole)
    )


def _memory(known: TrialMeasurement, job: Job, planned: int) -> int:
    """Bytes of a worker at the peak of a pass of the whole run."""
    if job.phase.kind in BLOCK_BY_BLOCK:
        return known.rest + known.beyond
    most = planned - PROCESS
    grown = known.beyond * most / max(1, known.formula)
    return known.rest + int(min(grown, most))
