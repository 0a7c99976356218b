"""`volflow score --sweep RUN`: score every threshold of a run, by steps added to the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from volflow.config.pipeline import Pipeline, from_dict
from volflow.errors import PlanError
from volflow.io.address import Address
from volflow.io.run.stored_pipeline import stored_document
from volflow.io.store import Store

if TYPE_CHECKING:
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan

REQUIRED = {"sweep": "truth", "sweep_skeletons": "skeletons"}
"""Stages that score a sweep, and the volume that each needs."""
OPTIONAL = {"sweep_skeletons": ("mito", "clefts", "nuclei")}
PREFIX = "scored_"  # of the steps and volumes that a scoring adds to a run


def plan_sweep(run: str, volumes: Mapping[str, str], profile: Profile) -> list[Plan]:
    """Plans of the steps that score all thresholds of a run.

    A run without such a step gets one, in addition to its own; none of its blocks is run again.

    Parameters
    ----------
    run : str
        Folder or address of a run whose `agglomerate` has several thresholds.
    volumes : mapping of str to str
        Addresses of the ground truth: truth, skeletons, mito, clefts, nuclei.
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
    try:
        document = stored_document(run)
    except PlanError as error:
        raise PlanError(*(f"--sweep {text}" for text in error.problems)) from error
    names: list[str] = []
    problems: list[str] = []
    for use, needed in REQUIRED.items():
        if needed not in volumes:
            continue
        given = {n: volumes[n] for n in (needed, *OPTIONAL.get(use, ())) if n in volumes}
        step = next((step for step in document["steps"] if step["use"] == use), None)
        if step is None or _is_added(step):
            step = step or {"use": use, "name": f"{PREFIX}{use}"}
            step["in"] = {name: f"{PREFIX}{name}" for name in given}
            document["steps"] = [x for x in document["steps"] if x is not step] + [step]
            document["volumes"].update({f"{PREFIX}{n}": {"path": p} for n, p in given.items()})
        else:
            problems += _conflicts(run, document, step, given)
        names.append(step.get("name") or use)
    if problems:
        raise PlanError(*problems)
    return from_dict(document, (f"run={store.location}",)), names


def _is_added(step: Mapping[str, Any]) -> bool:
    """Whether an earlier scoring added the step."""
    return str(step.get("name", "")).startswith(PREFIX)


def _conflicts(
    run: str, document: Mapping[str, Any], step: Mapping[str, Any], given: Mapping[str, str]
) -> Iterator[str]:
    """Options that differ from the volumes that a step of the run itself reads."""
    for name, path in given.items():
        volume = step.get("in", {}).get(name, name)
        own = document["volumes"].get(volume, {}).get("path") or f"precomputed://{run}/{volume}"
        if str(Address.parse(own)) != str(Address.parse(path)):
            yield (
                f"--sweep {run}: its own step '{step.get('name', step['use'])}' is scored against "
                f"{own}, and --{name} is {path}"
            )
