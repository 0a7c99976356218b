"""Say that a step of a run is to be done again: its markers go, its data stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volflow.config.problems import closest
from volflow.engine.monitor.status import outline
from volflow.errors import PlanError
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import RunLock


def with_dependents(run: str, step: str) -> list[str]:
    """A step and those that read, directly or not, what it writes, in order.

    Raises
    ------
    PlanError
        If the run, or the step in it, is not there.
    """
    steps = outline(run)
    names = [each["name"] for each in steps]
    if step not in names:
        hint = closest(step, names)
        raise PlanError(f"there is no step '{step}' in {run}{hint} (steps: {', '.join(names)})")
    return _readers(steps, step)


def invalidate(run: str, step: str) -> list[str]:
    """Forget that a step, and what depends on it, is done or failed; the names of these steps.

    Their volumes and records stay as they are and are written anew by the next run.

    Raises
    ------
    PlanError
        If the run, or the step in it, is not there.
    RunHeld
        If a driver holds the run.
    """
    with RunLock(run):
        names = with_dependents(run, step)
        ledger = Ledger(run)
        for name in reversed(names):  # readers first: a half of it is never a step without input
            ledger.purge_step(name)
    return names


def _readers(steps: Sequence[Mapping[str, Any]], step: str) -> list[str]:
    found = {step}
    for each in steps:  # in the order in which they are run: writers first
        if found & set(each.get("after", ())):
            found.add(each["name"])
    return [each["name"] for each in steps if each["name"] in found]
