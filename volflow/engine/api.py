"""Plan a pipeline and carry out a plan: the two calls of the command line and of Python users."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from volflow.config.bundled import find_bundled
from volflow.config.pipeline import Draft, Pipeline, from_dict, read
from volflow.engine.driver import execute
from volflow.engine.executors.base import MachineResources
from volflow.engine.executors.preflight import preflight
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.run_summary import summary
from volflow.engine.plan.plan import plan_draft
from volflow.engine.result import RunResult
from volflow.view.report.run.kept import kept_report

PipelineSource: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Pipeline


def make_plan(
    pipeline: PipelineSource,
    *,
    profile: Profile | None = None,
    overrides: Sequence[str] = (),
    bounds: str | None = None,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    offline: bool = False,
) -> Plan:
    """Check a pipeline and make every decision of its run; see `volflow.run` for the parameters.

    With `offline` no input is opened; such a plan cannot be run.

    Raises
    ------
    PlanError
        With all problems.
    """
    if isinstance(pipeline, Pipeline):
        draft = Draft(pipeline, ())
    elif isinstance(pipeline, Mapping):
        draft = Draft(from_dict(pipeline, overrides, bounds), ())
    else:
        draft = read(find_bundled(pipeline, "pipelines", "pipeline"), overrides, bounds)
    memory = memory_per_worker(profile) if profile else None
    planned = plan_draft(draft, only=only, from_=from_, until=until, memory=memory, offline=offline)
    return with_stage_folders(planned)


def with_stage_folders(plan: Plan) -> Plan:
    """The plan with the folders of the user's own stages, from which workers import them."""
    folders = list(plan.search_path)
    for step in plan.steps:
        root = sys.modules[type(step.stage).__module__.partition(".")[0]]
        inside = [Path(folder).parent for folder in getattr(root, "__path__", [])]
        for folder in inside or [Path(root.__file__ or "").parent]:
            if str(folder.absolute()) not in folders and root.__name__ != "volflow":
                folders.append(str(folder.absolute()))
    return replace(plan, search_path=tuple(folders))


def memory_per_worker(profile: Profile) -> int | None:
    """Bytes that a worker on this machine may use; None for workers on other machines."""
    if not profile.on_this_machine:
        return None
    return MachineResources.here().memory_for_blocks // (profile.workers or 1)


def carry_out(plan: Plan, profile: Profile, observer: RunObserver | None = None) -> RunResult:
    """Execute a plan on the workers of a profile; then write the run's report, unless it stands."""
    preflight(plan, profile)
    start = time.monotonic()
    result = execute(
        plan,
        cluster=profile,
        workers=profile.workers,
        timeout=profile.timeout,
        stall=profile.stall,
        on_stall=profile.on_stall,
        observer=observer,
    )
    facts = summary(plan, profile, result, time.monotonic() - start)
    segments = kept_report(result.run, facts)
    if segments is None:
        from volflow.view.report.run.page import leave_report  # which imports much

        segments = leave_report(result.run, facts, picture=not result.interrupted)
    result.segments = segments
    return result
