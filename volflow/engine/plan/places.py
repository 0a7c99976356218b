"""Check of places: no volume that is written shares a place with anything else of the run."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass

from volflow.config.keys import KeyPath
from volflow.config.problems import Problem
from volflow.engine.plan.state import PlanState
from volflow.io.address import Address
from volflow.io.places import Place

FOLDERS_OF_RUN = ("ledger", "records", "results", "events", "logs")
FILES_OF_RUN = (
    "outline.json",
    "overview.png",
    "pipeline.yaml",
    "profile.json",
    "progress.json",
    "report.html",
    "summary.json",
    "volflow.lock.json",
)
"""The names that a run writes in its folder besides volumes."""


@dataclass(frozen=True)
class _Used:
    """A place in use: its description in messages, and the keys of the file that declare it."""

    title: str
    path: str
    place: Place


def check_places(state: PlanState) -> Iterator[Problem]:
    """Check that no place of an output contains, or is within, a place of anything else.

    An input may be in the run's folder, as may outputs, but not where the run itself writes.
    """
    run = state.pipeline.run
    whole = _Used("the run", run, Place.of(run))
    parts = [
        _Used(f"the run's {name}", run, Place.of(run, name))
        for name in (*FOLDERS_OF_RUN, *FILES_OF_RUN)
    ]
    used: list[_Used] = []
    for name in _inputs(state):
        given = _input(name, state.pipeline.volumes[name].path)
        used.append(given)
        for part in (whole, *parts):
            if given.place.contains(part.place) or (
                part is not whole and part.place.contains(given.place)
            ):
                yield Problem(
                    ("volumes", name, "path"),
                    f"'{name}' is read where {part.title} is: {given.path}; the run would write "
                    f"into its own input; choose another folder for the run",
                )
                break
    for name, (writer, _) in state.wiring.writers.items():
        if state.is_table(name):
            continue
        path = state.stored_as(name).path
        own = _Used(name, path, Place.of(path))
        declared = name in state.pipeline.volumes
        where: KeyPath = ("volumes", name, "path") if declared else ("steps", writer.number)
        conflict = _conflict(own, whole, parts, used)
        if conflict:
            yield Problem(where, f"step '{writer.name}' would write '{name}' {conflict}")
        used.append(own)


def _conflict(own: _Used, whole: _Used, parts: list[_Used], used: list[_Used]) -> str:
    """The first place that an output would share, as the end of a sentence; "" if none."""
    if own.place.contains(whole.place):
        same = whole.place.contains(own.place)
        return f"{'where' if same else 'around where'} 'the run' is: {own.path}"
    for other in (*parts, *used):
        inside, around = other.place.contains(own.place), own.place.contains(other.place)
        if inside and around:
            return f"where '{other.title}' is: {own.path}"
        if inside or around:
            return (
                f"{'within' if inside else 'around'} '{other.title}' ({other.path}): {own.path}; "
                f"expected places that do not contain one another"
            )
    return ""


def _inputs(state: PlanState) -> list[str]:
    """Names of the volumes, skeletons and tables that are read from places of their own."""
    names = [*state.inputs.volumes, *state.inputs.skeletons, *state.inputs.tables]
    mask = state.pipeline.mask
    if mask is not None and mask in state.pipeline.volumes and not state.is_own(mask):
        names.append(mask)
    return list(dict.fromkeys(names))


def _input(name: str, path: str) -> _Used:
    """The place of an input; of a pattern of files, that of its first match."""
    plain = Place.of(path)
    if glob.has_magic(path):
        local = Address.parse(path).local
        matches = sorted(glob.glob(str(local))) if local is not None else []
        plain = Place.of(matches[0]) if matches else plain
    return _Used(name, path, plain)
