"""Summary of a run as JSON, from which its report is made."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.engine.monitor.history import history, seconds_by_step
from volflow.engine.result import RunResult
from volflow.version import __version__


def summary(plan: Plan, profile: Profile, result: RunResult, seconds: float) -> dict[str, Any]:
    """Summary of a run, for JSON.

    Parameters
    ----------
    plan, profile, result : Plan, Profile, RunResult
    seconds : float
        From the first step to the last, in this session.

    Returns
    -------
    dict
        `run`, `ok`, `interrupted`, `seconds`, `finished` (UTC), `version`, `workers`, `bounds`,
        `resolution` (nm, z y x), `history` (of all sessions, see `engine/monitor/history.py`),
        `segments` (number and sizes, if counted), `results` by step, `unmet` and `warnings`
        (sentences, those of the plan first), and a list each of `steps` and `failures`: the numbers
        of `StepResult` and `Failure` under the same names. A step has `all_seconds`, too: its time
        in all sessions together.
    """
    workers = "this process" if profile.cluster == "none" else profile.cluster
    past = history(result.run)
    all_seconds = seconds_by_step(past)
    return {
        "run": result.run,
        "ok": result.ok,
        "interrupted": result.interrupted,
        "seconds": seconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "workers": f"{workers}, {profile.workers}" if profile.workers else workers,
        "bounds": str(plan.bounds),
        "resolution": list(plan.resolution),
        "steps": [
            {
                "name": step.name,
                "total": step.total,
                "done": step.done,
                "already": step.already,
                "failed": len(step.failures),
                "left": step.left,
                "seconds": step.seconds,
                "all_seconds": max(step.seconds, all_seconds.get(step.name, 0.0)),
                "voxels": step.voxels,
                "extent": step.extent,
            }
            for step in result.steps
        ],
        "history": past,
        "segments": result.segments,
        "results": result.results,
        "unmet": result.unmet,
        "warnings": [*plan.warnings, *result.warnings],
        "failures": [asdict(failure) for failure in result.failures],
    }
