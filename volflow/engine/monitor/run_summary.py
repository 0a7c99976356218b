"""What a run has to say to those who did not watch it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.engine.monitor.history import history
from volflow.engine.result import RunResult
from volflow.version import __version__


def summary(plan: Plan, profile: Profile, result: RunResult, seconds: float) -> dict[str, Any]:
    """What became of a run, as JSON.

    Parameters
    ----------
    plan, profile, result : Plan, Profile, RunResult
    seconds : float
        From the first step to the last.

    Returns
    -------
    dict
        `run`, `ok`, `interrupted`, `seconds`, `finished` (UTC), `version`, `workers`, `bounds`,
        `resolution` (nm, z y x), `history` (see `engine/monitor/history.py`), `results` by step,
        `unmet` (sentences), and a list each of `steps` and `failures`: the numbers of `StepResult`
        and `Failure` under the same names.
    """
    workers = "this process" if profile.cluster == "none" else profile.cluster
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
                "voxels": step.voxels,
            }
            for step in result.steps
        ],
        "history": history(result.run),
        "results": result.results,
        "unmet": result.unmet,
        "failures": [asdict(failure) for failure in result.failures],
    }
