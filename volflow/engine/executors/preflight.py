"""Checks of a cluster profile before anything is started; all problems are reported together."""

from __future__ import annotations

from collections.abc import Iterator

from volflow.engine.executors.connect import executor_module
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.errors import PlanError


def preflight(plan: Plan, profile: Profile) -> None:
    """Check a profile against a plan, this machine, and the site's own limits.

    Raises
    ------
    PlanError
        With all problems, each with file and line.
    """
    problems = dict.fromkeys(executor_module(profile.kind).preflight_problems(plan, profile))
    if profile.kind != "none":
        problems |= dict.fromkeys(_unimportable(plan))
    if problems:
        raise PlanError(*problems)


def _unimportable(plan: Plan) -> Iterator[str]:
    """Stages of the program that runs, which is another one on a worker."""
    for step in plan.steps:
        if type(step.stage).__module__ == "__main__":
            name = type(step.stage).__qualname__
            yield (
                f"step '{step.name}': stage '{name}' is defined in the program that runs, from "
                f"which workers cannot import it; expected a stage in a module of its own"
            )
