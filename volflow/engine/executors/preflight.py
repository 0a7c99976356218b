"""Checks of a cluster profile before anything is started; all problems are reported together."""

from __future__ import annotations

from volflow.engine.executors.connect import MODULES
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
    problems = dict.fromkeys(MODULES[profile.kind].preflight_problems(plan, profile))
    if problems:
        raise PlanError(*problems)
