"""A trial: a few blocks of each step run in a scratch folder, and the cost of the whole run.

The pipeline runs over a few blocks from the middle of the volume, in a child process as on a
worker. The first block of each kind runs twice, because its first run loads and compiles. Steps
whose blocks depend on the bounds around them get those of the whole
(`engine/estimate/subvolume.py`), so they use the very tiles of the run. The measurements are
scaled in `engine/estimate/scaling.py`.
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

from volflow.config.overrides import default_step_name
from volflow.config.pipeline import Pipeline, StepSpec
from volflow.core.geometry import Box, Triple, zyx
from volflow.engine.estimate.scaling import (
    Key,
    StepEstimate,
    TrialMeasurement,
    efforts,
    estimate,
    key_of,
)
from volflow.engine.estimate.subvolume import job_in
from volflow.engine.job import Job, Plan, PlannedStep
from volflow.engine.phases.registry import kind_of
from volflow.engine.plan.plan import plan as planned
from volflow.engine.plan.planner import PROCESS_MEMORY
from volflow.engine.targets import prepare
from volflow.engine.worker.child_process import Child
from volflow.engine.worker.outcome import Outcome
from volflow.errors import BlockError

NOT_STORED = ("ledger", "events")  # folders that are not counted as stored bytes
ENOUGH, OFTEN = 1.0, 10  # seconds of a phase to measure, and the most repetitions for it


def run_trial(
    plan: Plan, blocks: int = 3, note: Callable[[str], None] = lambda text: None
) -> list[StepEstimate]:
    """Run a few blocks of each selected step of a plan in a scratch folder; estimate the rest.

    Parameters
    ----------
    plan : Plan
        Plan of a pipeline whose inputs exist.
    blocks : int
        Blocks of the largest block shape of the steps, at most. Eight (two by two by two) have
        more faces in common than three, like most blocks of a large volume.
    note : callable
        Called with a line of text when a step begins.

    Raises
    ------
    PlanError
        If a stage cannot state its effort; nothing was started.
    BlockError
        If one of the blocks fails.
    """
    for step in plan.steps:
        for job in step.jobs:
            efforts(job, step.bounds, step.bounds)
    chosen = {step.name for step in plan.chosen}
    with tempfile.TemporaryDirectory(prefix="volflow-trial-") as folder:
        small = planned(_cut(plan, middle(plan, blocks), folder), whole=plan.bounds)
        child = Child(plan.search_path)
        estimates = []
        try:
            for step in small.steps:
                note(f"trial: {step.name}, {step.blocks} blocks of {small.bounds}")
                before = stored_bytes(folder)
                prepare(small.pipeline.run, step)
                fixed = stored_bytes(folder) - before  # metadata of a volume of any size
                measurements = _measure(child, small, plan, step)
                if step.name in chosen:
                    estimates.append(estimate(plan, plan.step(step.name), measurements))
                    estimates[-1].stored += fixed
        finally:
            child.close()
    return estimates


def middle(plan: Plan, blocks: int) -> Box:
    """At most so many blocks in the middle of a plan's bounds, as close to a cube as possible.

    They are whole blocks if the bounds have enough of them.
    """
    shape = zyx(0)
    for step in plan.steps:
        if step.jobs:
            shape = shape.maximum(step.jobs[0].phase.grid.shape)
    counts = (plan.bounds.shape // shape).maximum(1)
    if math.prod(counts) < blocks:  # a small volume: include the truncated blocks at its end
        counts = -(-plan.bounds.shape // shape)
    ranges = [range(1, min(blocks, n) + 1) for n in counts]
    fitting = [zyx(taken) for taken in itertools.product(*ranges) if math.prod(taken) <= blocks]
    most = max(math.prod(taken) for taken in fitting)
    # Most blocks of a large volume have neighbours.
    taken = min((sides for sides in fitting if math.prod(sides) == most), key=_surface)
    start = plan.bounds.start + shape * ((counts - taken) // 2)
    return Box(start, start + shape * taken).clip(plan.bounds)


def _surface(shape: Triple) -> int:
    z, y, x = shape
    return 2 * (z * y + y * x + z * x)


def _cut(plan: Plan, bounds: Box, folder: str) -> Pipeline:
    """The pipeline over smaller bounds, writing everything into a folder."""
    written = {target.spec.path for step in plan.steps for target in step.targets}
    volumes = {
        name: spec.model_copy(update={"path": ""}) if spec.path in written else spec
        for name, spec in plan.pipeline.volumes.items()
    }
    steps = tuple(_in_voxels(plan, spec) for spec in plan.pipeline.steps)
    changed = {"run": folder, "bounds": str(bounds), "volumes": volumes, "steps": steps}
    inside = range(bounds.start[0], bounds.stop[0])
    bad = tuple(section for section in plan.pipeline.bad_sections if section in inside)
    closed = tuple(section for section in plan.pipeline.closed_sections if section in inside)
    sections = {"bad_sections": bad, "closed_sections": closed}
    return plan.pipeline.model_copy(update={**changed, **sections})


def _in_voxels(plan: Plan, spec: StepSpec) -> StepSpec:
    """A step whose parameters have the values of the whole run, not of the part.

    A part of a volume may be a single section, where sizes are areas.
    """
    step = plan.step(spec.name or default_step_name(spec.use))
    values = {each.parameter: each.value for each in step.resolved}
    return spec.model_copy(update={"with_": {**spec.with_, **values}}) if values else spec


def _measure(
    child: Child, small: Plan, plan: Plan, step: PlannedStep
) -> dict[Key, TrialMeasurement]:
    """The costs of the blocks of all phases of a step, by kind."""
    measurements: dict[Key, TrialMeasurement] = {}
    large = plan.step(step.name)
    for job in step.jobs:
        whole = large.bounds if step.stage.anchored else step.bounds
        formula = step.memory[job.phase.name] - PROCESS_MEMORY
        if step.stage.anchored:
            like = next(each for each in large.jobs if key_of(each) == key_of(job))
            job = job_in(job, like, whole)
        kind, total = kind_of(job.phase), measurements.setdefault(key_of(job), TrialMeasurement())
        effort, storage_effort = efforts(job, step.bounds, whole)
        total.effort += effort
        total.storage_effort += storage_effort
        # The root of so few blocks settles less of its input than any node of the run.
        timed = not (job.phase.root and kind.root_settles and total.timed_effort)
        total.timed_effort += effort * timed
        _measure_phase(child, job, total, formula, timed)
    return measurements


def _measure_phase(
    child: Child, job: Job, total: TrialMeasurement, formula: int, timed: bool
) -> None:
    """Run the blocks of a phase as a worker does, and add their mean costs to a total.

    Short phases are repeated, because other programs on the machine distort them most.
    """
    count, before = len(job.phase.grid), stored_bytes(job.run)
    first = None if total.blocks else _run(child, job, 0, 1)
    rest = _resident(child)
    outcomes = [_run(child, job, 0, count)]
    while sum(each.seconds for each in outcomes) < ENOUGH and len(outcomes) < OFTEN:
        outcomes.append(_run(child, job, 0, count))
    # The median: other programs make single runs longer, and none shorter.
    seconds = median(each.seconds for each in outcomes)
    cpu = median(each.cpu for each in outcomes)
    peak = max(each.peak for each in outcomes)
    if first is not None:
        total.start += max(0.0, first.wall - seconds / count)  # with the start of the child
        total.start_cpu += max(0.0, first.cpu - cpu / count)
    total.blocks += count
    total.seconds += seconds * timed
    total.cpu += cpu * timed
    total.stored += stored_bytes(job.run) - before
    total.formula = max(total.formula, formula)
    if peak - rest >= total.beyond:
        total.rest, total.beyond = rest, peak - rest


def _resident(child: Child) -> int:
    """Bytes of the child's process between two phases."""
    if child.process is None:  # every block had a marker before it reached a child
        return PROCESS_MEMORY
    return int(psutil.Process(child.process.pid).memory_info().rss)


def _run(child: Child, job: Job, start: int, stop: int) -> Outcome:
    outcome = child.run(job, start, stop)
    for failure in outcome.failures:
        place = " ".join(map(str, failure.index))
        raise BlockError(
            f"trial: step '{failure.step}', phase {failure.phase}, block {place} failed: "
            f"{failure.error}\n{failure.traceback}"
        )
    return outcome


def stored_bytes(folder: str) -> int:
    """Bytes of the files of a run, without its markers and events."""
    return sum(
        os.path.getsize(os.path.join(parent, name))
        for part in Path(folder).iterdir()
        if part.is_dir() and part.name not in NOT_STORED
        for parent, _, names in os.walk(part)
        for name in names
    )


def hours(estimates: list[StepEstimate], workers: int) -> float:
    """Hours of all steps, one after another, with their blocks spread over workers."""
    work = math.fsum(each.work for each in estimates) / max(1, workers)
    return (work + math.fsum(each.start + each.between for each in estimates)) / 3600
