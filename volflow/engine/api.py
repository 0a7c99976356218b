"""Load, plan and execute in one call: what the command line does, from Python."""

from __future__ import annotations

import logging
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
from volflow.engine.executors.profile import OnStall, Profile, find_profile
from volflow.engine.job import Plan, RunResult
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.run_summary import summary
from volflow.engine.plan.plan import plan_draft
from volflow.view.report.run_page import leave_report

PipelineSource: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Pipeline

logger = logging.getLogger(__name__)


def run(
    pipeline: PipelineSource,
    *,
    cluster: str = "none",
    workers: int | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    on_stall: OnStall | None = None,
    overrides: Sequence[str] = (),
    bounds: str | None = None,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    observer: RunObserver | None = None,
) -> RunResult:
    """Run a pipeline, resuming what an earlier run left.

    Parameters
    ----------
    pipeline : path, str or dict
        A pipeline file, the name of a shipped one (`segment`), or what such a file would say.
    cluster : str
        `none` (this process), `local` (Dask workers on this machine), `cuda` (one for each of its
        GPUs), `slurm`, tls://HOST:PORT of a Dask scheduler, or a profile file. A script that asks
        for `local` keeps its calls behind `if __name__ == "__main__":`, because Dask starts its
        workers by importing it.
    workers : int, optional
        Number of local workers; default: as many as cores and memory allow.
    timeout : float, optional
        Seconds that one block may take; default: the profile's, which is no limit.
    stall : float, optional
        Seconds without any block done after which that is said, 0 is never; default: the
        profile's, which is 600.
    on_stall : {"say", "restart", "end"}, optional
        What is done then: no more; the workers that are at work are started anew; the run is ended.
    overrides : sequence of str
        `dotted.key=value`, as after `--set`.
    bounds : str, optional
        `z0:z1,y0:y1,x0:x1` in voxels.
    only, from_, until : str, optional
        Name of the one step to run, or of the first or last one.
    watcher : Watcher, optional
        Told how it goes on.

    Returns
    -------
    RunResult
        `ok` is true when every block of every step is done; `failures` lists those that are not,
        `results` holds what steps like `score` found.

    Raises
    ------
    PlanError
        If the pipeline cannot run as written; nothing was started.
    RunHeld
        If another driver holds the run.
    """
    profile = find_profile(cluster, workers, timeout, stall, on_stall)
    planned = make_plan(
        pipeline,
        profile=profile,
        overrides=overrides,
        bounds=bounds,
        only=only,
        from_=from_,
        until=until,
    )
    result = carry_out(planned, profile, observer)
    if not result.ok:
        logger.warning("run %s did not finish: %d blocks failed", result.run, len(result.failures))
    return result


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
    """Check a pipeline and make every decision of its run; see `run` for the parameters.

    With `offline` nothing that is read is opened; such a plan cannot be run.

    Raises
    ------
    PlanError
        With all mistakes.
    """
    if isinstance(pipeline, Pipeline):
        draft = Draft(pipeline, ())
    elif isinstance(pipeline, Mapping):
        draft = Draft(from_dict(pipeline, overrides, bounds), ())
    else:
        draft = read(find_bundled(pipeline, "pipelines", "pipeline"), overrides, bounds)
    memory = memory_per_worker(profile) if profile else None
    steps = {"only": only, "from_": from_, "until": until}
    planned = plan_draft(draft, **steps, memory=memory, offline=offline)
    return with_stage_folders(planned)


def with_stage_folders(plan: Plan) -> Plan:
    """The plan with the folders of the user's own stages: workers import them from there, too."""
    folders = list(plan.search_path)
    for step in plan.steps:
        root = sys.modules[type(step.stage).__module__.partition(".")[0]]
        inside = [Path(folder).parent for folder in getattr(root, "__path__", [])]
        for folder in inside or [Path(root.__file__ or "").parent]:
            if str(folder.absolute()) not in folders and root.__name__ != "volflow":
                folders.append(str(folder.absolute()))
    return replace(plan, search_path=tuple(folders))


def memory_per_worker(profile: Profile) -> int | None:
    """Bytes that a worker on this machine may use at most; None for workers elsewhere."""
    if profile.kind in ("address", "slurm"):
        return None
    return MachineResources.here().memory * 9 // 10 // (profile.workers or 1)


def carry_out(plan: Plan, profile: Profile, observer: RunObserver | None = None) -> RunResult:
    """Execute a plan on the workers of a profile; the run is left with a report and a picture."""
    preflight(plan, profile)
    begun = time.monotonic()
    result = execute(
        plan,
        cluster=profile,
        workers=profile.workers,
        timeout=profile.timeout,
        stall=profile.stall,
        on_stall=profile.on_stall,
        observer=observer,
    )
    told = summary(plan, profile, result, time.monotonic() - begun)
    leave_report(result.run, told, picture=not result.interrupted)
    return result
