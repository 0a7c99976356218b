"""Invalidate a step of a run: its markers are deleted, its data stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volflow.config.problems import closest
from volflow.engine.monitor.status import outline
from volflow.errors import PlanError
from volflow.io.run.fence import require_held
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import RunLock


def with_dependents(run: str, step: str) -> list[str]:
    """A step and all steps that depend on it, directly or not, in order.

    Raises
    ------
    PlanError
        If there is no such run or step.
    """
    steps = outline(run)
    names = [each["name"] for each in steps]
    if step not in names:
        hint = closest(step, names)
        raise PlanError(f"there is no step '{step}' in {run}{hint} (steps: {', '.join(names)})")
    return _readers(steps, step)


def invalidate(run: str, step: str) -> list[str]:
    """Delete the markers of a step and of all that depend on it; returns the names of these steps.

    Their volumes and records stay, and the next run overwrites them.

    Raises
    ------
    PlanError
        If there is no such run or step.
    RunHeld
        If a driver holds the run.
    """
    with RunLock(run) as lock:
        names = with_dependents(run, step)
        ledger = Ledger(run)
        for name in reversed(names):  # readers first: an interruption never leaves a done reader
            require_held(lock)
            ledger.purge_step(name)
    return names


def _readers(steps: Sequence[Mapping[str, Any]], step: str) -> list[str]:
    readers = {step}
    for each in steps:  # in the order in which they run: writers first
        if readers & set(each.get("after", ())):
            readers.add(each["name"])
    return [each["name"] for each in steps if each["name"] in readers]
