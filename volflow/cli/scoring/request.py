"""The options of `volflow score` as one value, and the problems of their combination."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from volflow.config.problems import closest
from volflow.errors import PlanError, StorageError
from volflow.io.address import Address
from volflow.io.run.stored_outline import stored_outline

VOXELS, NODES, CLEFTS = "score", "score_skeletons", "score_clefts"
NEEDED = {
    VOXELS: ("segmentation", "truth"),
    NODES: ("segmentation", "skeletons"),
    CLEFTS: ("found_clefts", "true_clefts"),
}
"""Stages, and the volumes that each compares."""
ORGANELLES = ("mito", "clefts", "nuclei")

_LIMIT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=)\s*(\S+)\s*")

Limits = dict[str, dict[str, dict[str, float]]]
"""By stage, then by metric: `min` and `max`."""


@dataclass(frozen=True)
class Request:
    """The options of `volflow score`.

    `volumes` holds addresses by name: segmentation, truth, skeletons, mito, clefts, nuclei,
    found_clefts, true_clefts, em. With `partners`, tables of synaptic partners are compared too.
    """

    volumes: Mapping[str, str]
    objects: bool = False
    border: float = 0.0
    require: tuple[str, ...] = ()
    bounds: str | None = None
    out: str | None = None
    overrides: tuple[str, ...] = ()
    partners: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The stages that are needed; none where only tables are compared."""
        return tuple(step for step, names in NEEDED.items() if set(names) <= set(self.volumes))


def option_of(volume: str) -> str:
    """The option that gives a volume."""
    return "--image" if volume == "em" else f"--{volume.replace('_', '-')}"


def option_problems(request: Request) -> Iterator[str]:
    """Problems of the options among themselves, and of the folder for the report.

    Raises
    ------
    PlanError
        If there is nothing to score, or nothing to score against.
    """
    yield from _missing_options(request)
    if request.bounds and not request.volumes:
        yield "--bounds needs a volume"
    if request.out is not None:
        if not request.steps and _holds_run(request.out):
            yield f"--out {request.out}: holds scores of volumes; give a folder of its own"
        yield from _unwritable(request.out)


def _missing_options(request: Request) -> Iterator[str]:
    """Options without those that they need."""
    given = request.volumes
    clefts = [name for name in NEEDED[CLEFTS] if name in given]
    if len(clefts) == 1:
        (other,) = set(NEEDED[CLEFTS]) - set(clefts)
        yield f"{option_of(clefts[0])} needs {option_of(other)}"
    if "segmentation" not in given:
        names = [name for name in ("truth", "skeletons") if name in given]
        if "truth" in names and request.partners:
            names.remove("truth")  # the neurons of partners are looked up in it
        if "em" in given and not request.steps:
            names.append("em")
        if not (request.partners or names or clefts):
            raise PlanError("nothing to score: give --segmentation, --found-clefts or --partners")
        yield from (f"{option_of(name)} needs --segmentation" for name in names)
    elif not {VOXELS, NODES} & set(request.steps):
        raise PlanError("nothing to score against: give --truth, --skeletons or both")
    if "skeletons" not in given:
        yield from (f"--{name} needs --skeletons" for name in ORGANELLES if name in given)
    if not {"segmentation", "truth"} <= set(given):
        missing = "--truth" if "segmentation" in given else "--segmentation"
        if request.objects:
            yield f"--objects needs {missing}"
        if request.border:
            yield f"--border needs {missing}"


def limits_of(request: Request) -> tuple[Limits, list[str]]:
    """Limits as the stages take them, and the problems of the others."""
    limits: Limits = {}
    problems = []
    stages = stage_by_metric()
    for text in request.require:
        parts = _LIMIT.fullmatch(text)
        number = _number(parts[3]) if parts else None
        if parts is None or number is None:
            problems.append(f"--require {text!r}: expected METRIC<=NUMBER or METRIC>=NUMBER")
            continue
        name = parts[1]
        stage = stages.get(name)
        if stage is None:
            problems.append(
                f"--require {text!r}: there is no metric '{name}'{closest(name, stages)} (metrics: "
                f"{', '.join(stages)})"
            )
        elif stage not in request.steps:
            missing = next(volume for volume in NEEDED[stage] if volume not in request.volumes)
            problems.append(f"--require {text!r}: '{name}' needs {option_of(missing)}")
        else:
            side = "max" if parts[2] == "<=" else "min"
            limits.setdefault(stage, {}).setdefault(name, {})[side] = number
    return limits, problems


def stage_by_metric() -> dict[str, str]:
    """The metrics that a limit can be set for, and the stage that computes each."""
    from volflow.stages import score, score_clefts, score_skeletons

    return {
        **dict.fromkeys(score.METRICS, VOXELS),
        **dict.fromkeys(score_skeletons.METRICS, NODES),
        **dict.fromkeys(score_clefts.METRICS, CLEFTS),
    }


def _number(text: str) -> float | None:
    """A finite number; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _holds_run(out: str) -> bool:
    try:
        return stored_outline(out) is not None
    except (StorageError, OSError):
        return False  # `_unwritable` reports it


def _unwritable(out: str) -> Iterator[str]:
    """Problems of writing a report to a folder or address."""
    try:
        folder = Address.parse(out).local
        if folder is not None:
            existing = Path(folder)
            while not existing.exists() and existing != existing.parent:
                existing = existing.parent
            if not existing.is_dir():
                yield f"--out {out}: {existing} is a file; expected a folder"
                return
            if not os.access(existing, os.W_OK | os.X_OK):
                yield f"--out {out}: {existing} is not writable"
                return
        yield from _other_run(out)
    except StorageError as error:
        yield f"--out {out}: {error}"


def _other_run(out: str) -> Iterator[str]:
    """The problem of a folder that holds a run other than a scoring."""
    outline = stored_outline(out)
    names = [step["name"] for step in outline["steps"]] if outline else []
    if not set(names) <= set(NEEDED):
        yield (
            f"--out {out}: holds another run (its steps: {', '.join(names)}); give a folder of its "
            f"own"
        )
