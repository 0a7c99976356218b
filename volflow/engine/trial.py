"""A few real blocks of each step in a scratch folder, and what the whole run will take by them.

The pipeline is run over a few blocks from the middle of the volume, each block alone in a child
process as on a worker, the first one twice, because its first time loads and compiles. What was
measured is scaled by what the cost of a pass grows with:

    map, leaf, rows, finish    voxels that are written
    join, split, gather        the faces at which children touch, where segments go on
    group                      voxels of the volume
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from volflow.core.geometry import BlockGrid, Box, Triple, triple
from volflow.core.pipeline import Pipeline
from volflow.core.stage import Pass
from volflow.engine.child import Child
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.plan import plan as planned
from volflow.engine.planner import PROCESS
from volflow.engine.ranges import Outcome
from volflow.engine.run import prepare
from volflow.errors import BlockError

BLOCK_BY_BLOCK = ("map", "leaf", "rows", "finish")
KEPT_APART = ("ledger", "events")  # of a run's files; markers are few in a run that is not tried

Key = tuple[str, str, str]
"""Step, kind of pass, round."""


@dataclass
class Tried:
    """What the blocks of one kind of pass took, all together."""

    blocks: int = 0
    units: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processors: what counts on a machine that others use, too."""
    start: float = 0.0
    """Seconds that the first block took longer than when it was done again: what is loaded."""
    start_cpu: float = 0.0
    stored: float = 0.0
    peak: int = 0
    least: int = 0
    """Bytes of the process at the peak of the block that took least: what it has anyhow."""


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
    stored: float = 0.0
    """Bytes after compression."""
    memory: int = 0
    """Bytes of a worker at its peak."""
    unknown: list[str] = field(default_factory=list)
    """Passes that so few blocks do not have; they count as nothing."""


def try_out(
    plan: Plan, blocks: int = 3, note: Callable[[str], None] = lambda text: None
) -> list[StepEstimate]:
    """Do a few blocks of each chosen step of a plan in a scratch folder; estimate the rest.

    Parameters
    ----------
    plan : Plan
        Of a pipeline whose inputs are there.
    blocks : int
        Blocks of the largest of the steps' block shapes, at most. Eight (two by two by two) touch
        more of one another than three, as most blocks of a large volume do.
    note : callable
        Told what is under way.

    Raises
    ------
    BlockError
        If one of the blocks fails.
    """
    with tempfile.TemporaryDirectory(prefix="volflow-trial-") as folder:
        small = planned(_cut(plan, middle(plan, blocks), folder))
        child = Child(plan.search_path)
        found = []
        try:
            for step in small.steps:
                note(f"trial: {step.name}, {step.blocks} blocks of {small.bounds}")
                before = stored_bytes(folder)
                prepare(small.pipeline.run, step)
                fixed = stored_bytes(folder) - before  # what tells of a volume, however large
                tried = _tried(child, small, step)
                if step.name in {each.name for each in plan.chosen}:
                    found.append(_estimate(plan, plan.step(step.name), tried))
                    found[-1].stored += fixed
        finally:
            child.close()
    return found


def middle(plan: Plan, blocks: int) -> Box:
    """So many whole blocks, or a few less, in the middle of a plan's bounds; as cubic as can be."""
    shapes = [step.jobs[0].sweep.grid.shape for step in plan.steps if step.jobs]
    shape = triple([max(sides) for sides in zip(*shapes, strict=True)])
    whole = [max(1, n // side) for n, side in zip(plan.bounds.shape, shape, strict=True)]
    ranges = [range(1, min(blocks, n) + 1) for n in whole]
    fitting = [taken for taken in itertools.product(*ranges) if math.prod(taken) <= blocks]
    most = max(math.prod(taken) for taken in fitting)
    # Blocks that touch others are what most blocks of a large volume are.
    compact = [taken for taken in fitting if math.prod(taken) == most]
    taken = min(compact, key=lambda sides: _surface(triple(sides)))
    first = [(n - t) // 2 for n, t in zip(whole, taken, strict=True)]
    sides = list(zip(plan.bounds.start, shape, first, taken, strict=True))
    start = triple([begin + side * f for begin, side, f, _ in sides])
    stop = triple([begin + side * (f + t) for begin, side, f, t in sides])
    return Box(start, stop).clip(plan.bounds)


def _cut(plan: Plan, bounds: Box, folder: str) -> Pipeline:
    """The pipeline over smaller bounds, with all that it writes in a folder."""
    written = {target.spec.path for step in plan.steps for target in step.targets}
    volumes = {
        name: spec.model_copy(update={"path": ""}) if spec.path in written else spec
        for name, spec in plan.pipeline.volumes.items()
    }
    changed = {"run": folder, "bounds": str(bounds), "volumes": volumes}
    inside = range(bounds.start[0], bounds.stop[0])
    bad = tuple(section for section in plan.pipeline.bad_sections if section in inside)
    return plan.pipeline.model_copy(update={**changed, "bad_sections": bad})


def _tried(child: Child, small: Plan, step: PlannedStep) -> dict[Key, Tried]:
    found: dict[Key, Tried] = {}
    for job in step.jobs:
        tried = found.setdefault(_key(job), Tried())
        before = stored_bytes(small.pipeline.run)
        first = None if tried.blocks else _done(child, job, 0)
        for number in range(len(job.sweep.grid)):
            outcome = _done(child, job, number)
            if first is not None:
                tried.start += max(0.0, first.seconds - outcome.seconds)
                tried.start_cpu += max(0.0, first.cpu - outcome.cpu)
                first = None
            tried.blocks += 1
            tried.seconds += outcome.seconds
            tried.cpu += outcome.cpu
            tried.least = min(tried.least or outcome.peak, outcome.peak)
            tried.peak = max(tried.peak, outcome.peak)
        tried.stored += stored_bytes(small.pipeline.run) - before
        tried.units += _units(job.sweep, small.bounds)
    return found


def _done(child: Child, job: Job, number: int) -> Outcome:
    outcome = child.run(job, number, number + 1)
    for failure in outcome.failures:
        place = " ".join(map(str, failure.index))
        raise BlockError(
            f"trial: step '{failure.step}', pass {failure.sweep}, block {place} failed: "
            f"{failure.error}\n{failure.traceback}"
        )
    return outcome


def _estimate(plan: Plan, step: PlannedStep, tried: dict[Key, Tried]) -> StepEstimate:
    """Scale what was tried of a step to all its passes."""
    found = StepEstimate(step.name, step.pool, sum(each.blocks for each in tried.values()))
    found.start = sum(each.start for each in tried.values())
    found.start_cpu = sum(each.start_cpu for each in tried.values())
    anyhow = min((each.least for each in tried.values()), default=PROCESS)
    for job in step.jobs:
        known = tried.get(_key(job))
        if known is None or not known.units:
            found.unknown.append(job.sweep.name)
            found.memory = max(found.memory, step.memory[job.sweep.name])
            continue
        share = _units(job.sweep, plan.bounds) / known.units
        found.work += known.seconds * share
        found.cpu += known.cpu * share
        found.stored += known.stored * share
        node = step.memory[job.sweep.name] - PROCESS + anyhow
        same = job.sweep.kind in BLOCK_BY_BLOCK
        found.memory = max(found.memory, known.peak if same else node)
    return found


def _key(job: Job) -> Key:
    return job.step, job.sweep.kind, job.sweep.round


def _units(sweep: Pass, bounds: Box) -> float:
    """What the cost of a whole pass grows with."""
    if sweep.kind in BLOCK_BY_BLOCK:
        return float(sweep.grid.bounds.size)
    if sweep.kind == "group" or sweep.below is None:
        return float(bounds.size)
    return float(_inner(sweep.below))


def _inner(grid: BlockGrid) -> int:
    """Voxels of the faces at which blocks of a grid touch, both sides; some if there are none."""
    found = 0
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        faces = (grid.counts[axis] - 1) * math.prod(grid.counts[a] for a in others)
        found += 2 * faces * math.prod(grid.shape[a] for a in others)
    return found or _surface(grid.shape)


def _surface(shape: Triple) -> int:
    z, y, x = shape
    return 2 * (z * y + y * x + z * x)


def stored_bytes(folder: str) -> int:
    """Bytes of the files of a run, but for its markers and events."""
    return sum(
        os.path.getsize(os.path.join(parent, name))
        for part in Path(folder).iterdir()
        if part.is_dir() and part.name not in KEPT_APART
        for parent, _, names in os.walk(part)
        for name in names
    )


def hours(estimates: list[StepEstimate], workers: int) -> float:
    """Hours that steps take one after another, their blocks spread over workers."""
    work = math.fsum(each.work for each in estimates) / max(1, workers)
    return (work + math.fsum(each.start for each in estimates)) / 3600
