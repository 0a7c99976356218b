"""Planning: every decision made and every mistake told before anything is started or written.

wire       stages are built, inputs and outputs joined by name, steps put in order
survey     volumes are opened, bounds, resolution and mask found
Planner    step by step: digests, targets, one job per pass, memory and bytes
"""

from __future__ import annotations

from volflow.config.pipeline import Draft, Pipeline
from volflow.config.problems import Problems, closest
from volflow.config.wiring import Wiring, wire
from volflow.engine.job import Plan
from volflow.engine.plan import checks
from volflow.engine.plan.inputs import open_inputs
from volflow.engine.plan.planner import Planner
from volflow.errors import PlanError


def plan(
    pipeline: Pipeline,
    *,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    memory: int | None = None,
) -> Plan:
    """Check a pipeline against what it reads, and make every decision of its run.

    Parameters
    ----------
    pipeline : Pipeline
    only, from_, until : str, optional
        The one step to be run, or the first or last one; the others are planned all the same.
    memory : int, optional
        Bytes that a worker may use at most; default: not checked.

    Raises
    ------
    PlanError
        With all mistakes, each with file and line where the pipeline came from a file.
    """
    return plan_draft(Draft(pipeline), only=only, from_=from_, until=until, memory=memory)


def plan_draft(
    draft: Draft,
    *,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    memory: int | None = None,
    offline: bool = False,
) -> Plan:
    """Plan what a file says; its own mistakes and those of planning are told together.

    With `offline` no volume is opened and no store asked: those that are read are taken as they
    are declared (`engine/plan/declared_volume.py`). Such a plan is for reading, not for running.

    Raises
    ------
    PlanError
        With all mistakes.
    """
    pipeline = draft.pipeline
    if pipeline is None:
        raise PlanError(*draft.problems)
    problems = Problems(pipeline.where)
    problems.found += draft.problems
    wiring = wire(pipeline, problems)
    selected = _selected(wiring, only, from_, until, problems)
    plan_inputs = open_inputs(pipeline, wiring, problems, offline)
    if plan_inputs is None:
        raise PlanError(*problems.found)
    planner = Planner(pipeline, wiring, plan_inputs, problems, memory, offline)
    steps = tuple(planner.planned(step) for step in wiring.steps)
    planner.check_addresses()
    if not offline:
        checks.check_space(pipeline.run, steps, problems)
    problems.check()
    return Plan(
        pipeline,
        plan_inputs.bounds,
        plan_inputs.resolution,
        steps,
        selected,
        pipeline.where.folders,
    )


def _selected(
    wiring: Wiring, only: str | None, from_: str | None, until: str | None, problems: Problems
) -> tuple[str, ...]:
    """Names of the steps to be run; all of them if nothing is asked."""
    names = [step.name for step in wiring.steps]
    for option, name in (("--only", only), ("--from", from_), ("--until", until)):
        if name is not None and name not in names:
            problems.add(
                (),
                f"{option} {name}: there is no such step{closest(name, names)} "
                f"(steps: {', '.join(names)})",
            )
            return ()
    if only is not None:
        if from_ is not None or until is not None:
            problems.add((), "--only names one step; --from and --until name a range")
        return (only,)
    first = names.index(from_) if from_ is not None else 0
    last = names.index(until) if until is not None else len(names) - 1
    if first > last:
        problems.add((), f"--from {from_} comes after --until {until} (steps: {', '.join(names)})")
    return tuple(names[first : last + 1]) if (from_, until) != (None, None) else ()
