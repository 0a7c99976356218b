"""A few real blocks of each step in a scratch folder, and what the whole run will take by them.

The pipeline is run over a few blocks from the middle of the volume, in a child process as on a
worker, the first block of each kind twice, because its first time loads and compiles. Steps whose
blocks depend on the bounds they lie in are shown those of the whole
(`engine/estimate/subvolume.py`): they use the very tiles of the run. What was measured is scaled
(`engine/estimate/scaling.py`).
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from volflow.config.pipeline import Pipeline
from volflow.core.geometry import Box, Triple, zyx
from volflow.engine.driver import prepare
from volflow.engine.estimate.scaling import (
    Key,
    StepEstimate,
    TrialMeasurement,
    estimate,
    key_of,
    passed,
    units,
)
from volflow.engine.estimate.subvolume import job_in
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.plan.plan import plan as planned
from volflow.engine.plan.planner import PROCESS
from volflow.engine.worker.block_range import Outcome
from volflow.engine.worker.child_process import Child
from volflow.errors import BlockError

KEPT_APART = ("ledger", "events")  # of a run's files; markers are few in a run that is not tried

ENOUGH, OFTEN = 1.0, 10  # seconds of a pass that are measured, but not more often than so


def run_trial(
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
                tried = _tried(child, small, plan, step)
                if step.name in {each.name for each in plan.chosen}:
                    found.append(estimate(plan, plan.step(step.name), tried))
                    found[-1].stored += fixed
        finally:
            child.close()
    return found


def middle(plan: Plan, blocks: int) -> Box:
    """So many blocks, or a few less, in the middle of a plan's bounds; as cubic as can be.

    They are whole ones, if the bounds hold so many.
    """
    shapes = [step.jobs[0].phase.grid.shape for step in plan.steps if step.jobs]
    shape = zyx([max(sides) for sides in zip(*shapes, strict=True)])
    whole = [max(1, n // side) for n, side in zip(plan.bounds.shape, shape, strict=True)]
    if math.prod(whole) < blocks:  # a small volume: those at its end that are cut off, too
        whole = [-(-n // side) for n, side in zip(plan.bounds.shape, shape, strict=True)]
    ranges = [range(1, min(blocks, n) + 1) for n in whole]
    fitting = [taken for taken in itertools.product(*ranges) if math.prod(taken) <= blocks]
    most = max(math.prod(taken) for taken in fitting)
    # Blocks that touch others are what most blocks of a large volume are.
    compact = [taken for taken in fitting if math.prod(taken) == most]
    taken = min(compact, key=lambda sides: _surface(zyx(sides)))
    first = [(n - t) // 2 for n, t in zip(whole, taken, strict=True)]
    sides = list(zip(plan.bounds.start, shape, first, taken, strict=True))
    start = zyx([begin + side * f for begin, side, f, _ in sides])
    stop = zyx([begin + side * (f + t) for begin, side, f, t in sides])
    return Box(start, stop).clip(plan.bounds)


def _surface(shape: Triple) -> int:
    z, y, x = shape
    return 2 * (z * y + y * x + z * x)


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


def _tried(child: Child, small: Plan, plan: Plan, step: PlannedStep) -> dict[Key, TrialMeasurement]:
    """What the blocks of all passes of a step take, by kind."""
    found: dict[Key, TrialMeasurement] = {}
    large = plan.step(step.name).jobs
    for job in step.jobs:
        whole = plan.bounds if step.stage.anchored else small.bounds
        formula = step.memory[job.phase.name] - PROCESS
        if step.stage.anchored:
            like = next(each for each in large if key_of(each) == key_of(job))
            job = job_in(job, like, whole)
        tried = found.setdefault(key_of(job), TrialMeasurement())
        done = units(step.stage, job.phase, small.bounds, whole)
        tried.units += done
        tried.passed += passed(step.stage, job.phase, small.bounds, whole)
        tried.written += job.phase.grid.bounds.size
        # The root of so few blocks settles less of what it is passed than any node of the run.
        timed = not (job.phase.root and job.phase.kind == "join" and tried.timed)
        tried.timed += done * timed
        _try(child, job, tried, formula, timed)
    return found


def _try(child: Child, job: Job, tried: TrialMeasurement, formula: int, timed: bool) -> None:
    """Do the blocks of a pass, as a worker is given them, and count in what they took on average.

    Short passes are done again and again, as what else the machine does weighs much in them.
    """
    count, before = len(job.phase.grid), stored_bytes(job.run)
    first = None if tried.blocks else _done(child, job, 0, 1)
    rest = _resident(child)
    done = [_done(child, job, 0, count)]
    while sum(each.seconds for each in done) < ENOUGH and len(done) < OFTEN:
        done.append(_done(child, job, 0, count))
    # The middle one: what else the machine does makes single ones long, and none short.
    seconds, cpu = median(each.seconds for each in done), median(each.cpu for each in done)
    peak = max(each.peak for each in done)
    if first is not None:
        tried.start += max(0.0, first.wall - seconds / count)  # the child's own start, too
        tried.start_cpu += max(0.0, first.cpu - cpu / count)
    tried.blocks += count
    tried.seconds += seconds * timed
    tried.cpu += cpu * timed
    tried.stored += stored_bytes(job.run) - before
    tried.formula = max(tried.formula, formula)
    if peak - rest >= tried.beyond:
        tried.rest, tried.beyond = rest, peak - rest


def _resident(child: Child) -> int:
    """Bytes of the child's process between two passes."""
    if child.process is None:  # every block was known before it came to a child
        return PROCESS
    return int(psutil.Process(child.process.pid).memory_info().rss)


def _done(child: Child, job: Job, start: int, stop: int) -> Outcome:
    outcome = child.run(job, start, stop)
    for failure in outcome.failures:
        place = " ".join(map(str, failure.index))
        raise BlockError(
            f"trial: step '{failure.step}', pass {failure.phase}, block {place} failed: "
            f"{failure.error}\n{failure.traceback}"
        )
    return outcome


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
    return (work + math.fsum(each.start + each.between for each in estimates)) / 3600
