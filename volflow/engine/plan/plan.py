"""Planning: every decision made and every problem reported before anything is started or written.

wire          stages are built, inputs and outputs connected by name, steps put in order
open_inputs   volumes are opened; bounds, resolution and mask are determined
resolve_units for each step: parameters in nanometres and micrometres become voxels
plan_step     for each step: digests, targets, one job per phase, memory and bytes
"""

from __future__ import annotations

from volflow.config.pipeline import Draft, Pipeline
from volflow.config.problems import Checked, Problem, Problems, closest
from volflow.config.wiring import Wiring, resolve_units, wire
from volflow.core.geometry import Box
from volflow.core.stage import Units
from volflow.engine.job import Downsampled, Plan
from volflow.engine.plan.inputs import PlanInputs, open_inputs
from volflow.engine.plan.places import check_places
from volflow.engine.plan.planner import plan_step
from volflow.engine.plan.resources import check_space
from volflow.engine.plan.state import PlanState
from volflow.errors import PlanError


def plan(
    pipeline: Pipeline,
    *,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    memory: int | None = None,
    whole: Box | None = None,
) -> Plan:
    """Check a pipeline against its inputs, and make every decision of its run.

    Parameters
    ----------
    pipeline : Pipeline
    only, from_, until : str, optional
        The one step to run, or the first or last one; all steps are planned.
    memory : int, optional
        Bytes that a worker may use; default: not checked.
    whole : Box, optional
        For a trial of a part of a run: the bounds of the run. Checks of all of its volume, such as
        whether chosen cells are inside, are made there.

    Raises
    ------
    PlanError
        With all problems, each with file and line if the pipeline came from a file.
    """
    return plan_draft(
        Draft(pipeline), only=only, from_=from_, until=until, memory=memory, whole=whole
    )


def plan_draft(
    draft: Draft,
    *,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    memory: int | None = None,
    offline: bool = False,
    whole: Box | None = None,
) -> Plan:
    """Plan a pipeline file; its own problems and those of planning are reported together.

    With `offline` no volume or store is opened: inputs are taken as declared
    (`engine/plan/declared_volume.py`). Such a plan is for reading, not for running.

    Raises
    ------
    PlanError
        With all problems.
    """
    pipeline = draft.pipeline
    if pipeline is None:
        raise PlanError(*draft.problems)
    problems = Problems(pipeline.where)
    problems.found += draft.problems
    wiring = problems.collect(wire(pipeline))
    selected = problems.collect(_selected(wiring, only, from_, until))
    plan_inputs = problems.collect(open_inputs(pipeline, wiring, offline, whole))
    if plan_inputs is None:
        raise PlanError(*problems.found)
    state = PlanState(pipeline, wiring, plan_inputs)
    steps = []
    for step in wiring.steps:
        units = Units(plan_inputs.resolution, plan_inputs.bounds.shape[0])
        if problems.collect(resolve_units(step, pipeline.where.folders, units)):
            steps.append(problems.collect(plan_step(state, step, memory, offline, whole)))
    planned = tuple(step for step in steps if step is not None)
    problems.extend(check_places(state))
    if not offline:
        problems.extend(check_space(pipeline.run, planned))
    problems.check()
    return Plan(
        pipeline,
        plan_inputs.bounds,
        plan_inputs.resolution,
        planned,
        selected,
        pipeline.where.folders,
        plan_inputs.warnings,
        _downsampled(plan_inputs),
    )


def _downsampled(plan_inputs: PlanInputs) -> tuple[Downsampled, ...]:
    return tuple(
        Downsampled(
            name,
            given if isinstance(given, str) else str(list(given)),
            volume.downsample,
            volume.resolution or plan_inputs.resolution,
        )
        for name, volume in plan_inputs.volumes.items()
        if (given := volume.spec.downsample) is not None
    )


def _selected(
    wiring: Wiring, only: str | None, from_: str | None, until: str | None
) -> Checked[tuple[str, ...]]:
    """Names of the steps to run; all of them if no option is given."""
    names = [step.name for step in wiring.steps]
    if not names:  # none could be built, which is a problem already
        return ()
    listed = ", ".join(names)
    for option, name in (("--only", only), ("--from", from_), ("--until", until)):
        if name is not None and name not in names:
            hint = closest(name, names)
            yield Problem((), f"{option} {name}: there is no such step{hint} (steps: {listed})")
            return ()
    if only is not None:
        if from_ is not None or until is not None:
            yield Problem((), "--only names one step; --from and --until name a range")
        return (only,)
    first = names.index(from_) if from_ is not None else 0
    last = names.index(until) if until is not None else len(names) - 1
    if first > last:
        yield Problem((), f"--from {from_} comes after --until {until} (steps: {listed})")
    return tuple(names[first : last + 1]) if (from_, until) != (None, None) else ()
