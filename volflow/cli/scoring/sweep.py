"""`volflow score --sweep RUN`: every threshold of a run scored, by a step that is added to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from volflow.config.pipeline import Pipeline, from_dict
from volflow.errors import PlanError
from volflow.io.address import Address
from volflow.io.store import Store

if TYPE_CHECKING:
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan

SWEEPS = {"sweep": "truth", "sweep_skeletons": "skeletons"}  # stages, and what each must be given
OURS = "scored_"  # begins the names of steps and volumes that a scoring adds
ALSO = {"sweep_skeletons": ("mito", "clefts", "nuclei")}


def plan_sweep(run: str, volumes: Mapping[str, str], profile: Profile) -> list[Plan]:
    """A plan for each step that scores all thresholds of a run.

    Where the run has no such step it gets one, beside those that it was made with; none of its
    blocks is done again.

    Parameters
    ----------
    run : str
        Folder or address of a run whose `agglomerate` has several thresholds.
    volumes : mapping of str to str
        Addresses of what it is scored against: truth, skeletons, mito, clefts, nuclei.
    profile : Profile

    Raises
    ------
    PlanError
        If there is no such run, or it was scored against something else.
    """
    from volflow.engine.api import make_plan

    pipeline, names = _with_sweeps(run, volumes)
    plans, problems = [], []
    for name in names:
        try:
            plans.append(make_plan(pipeline, profile=profile, only=name))
        except PlanError as error:
            problems += [text for text in error.problems if text not in problems]
    if problems:
        raise PlanError(*(f"--sweep {run}: {text}" for text in problems))
    return plans


def _with_sweeps(run: str, volumes: Mapping[str, str]) -> tuple[Pipeline, list[str]]:
    """The pipeline of a run with the steps that score its thresholds, and their names."""
    store = Store(run)
    text = store.read("pipeline.yaml")
    if text is None:
        raise PlanError(f"--sweep {run}: it holds no run (it has no pipeline.yaml)")
    document = yaml.safe_load(text)
    names, problems = [], []
    for use, needed in SWEEPS.items():
        if needed not in volumes:
            continue
        given = {n: volumes[n] for n in (needed, *ALSO.get(use, ())) if n in volumes}
        step = next((step for step in document["steps"] if step["use"] == use), None)
        if step is None or _ours(step):
            step = step or {"use": use, "name": f"{OURS}{use}"}
            step["in"] = {name: f"{OURS}{name}" for name in given}
            document["steps"] = [x for x in document["steps"] if x is not step] + [step]
            document["volumes"].update({f"{OURS}{n}": {"path": p} for n, p in given.items()})
        else:
            problems += _others(run, document, step, given)
        names.append(step.get("name") or use)
    if problems:
        raise PlanError(*problems)
    return from_dict(document, (f"run={store.location}",)), names


def _ours(step: Mapping[str, Any]) -> bool:
    """Whether a step was added by an earlier scoring."""
    return str(step.get("name", "")).startswith(OURS)


def _others(
    run: str, document: Mapping[str, Any], step: Mapping[str, Any], given: Mapping[str, str]
) -> list[str]:
    """Where a step of the run's own reads something else than what is given now."""
    found = []
    for name, path in given.items():
        volume = step.get("in", {}).get(name, name)
        known = document["volumes"].get(volume, {}).get("path") or f"precomputed://{run}/{volume}"
        if str(Address.parse(known)) != str(Address.parse(path)):
            found.append(
                f"--sweep {run}: its own step '{step.get('name', step['use'])}' is scored against "
                f"{known}, and --{name} is {path}"
            )
    return found
