"""The pipeline that `volflow score` runs, and what is wrong with what it was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from volflow.config.pipeline import Pipeline, from_dict
from volflow.config.problems import closest
from volflow.core.geometry import Box
from volflow.errors import PlanError, StorageError, VolflowError
from volflow.io.address import SKELETONS, Address
from volflow.io.store import Store
from volflow.io.volume import Volume
from volflow.metrics.detections.objects import THRESHOLDS

BLOCK = 256  # voxels along each side of a block: nothing is written, so no chunk has a say
VOXELS, NODES, CLEFTS = "score", "score_skeletons", "score_clefts"
ORGANELLES = ("mito", "clefts", "nuclei")
NEEDED = {
    VOXELS: ("segmentation", "truth"),
    NODES: ("segmentation", "skeletons"),
    CLEFTS: ("found_clefts", "true_clefts"),
}  # stages, and the volumes that each compares
STEPS = set(NEEDED)
UNPLACED = ("tiff", "hdf5")  # formats that do not say where a volume lies
_LIMIT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Request:
    """What the user asked to be scored, as the options of `volflow score` say it.

    `volumes` holds the addresses that were given: segmentation, truth, skeletons, mito, clefts,
    nuclei, found_clefts, true_clefts, em. With `partners` tables of synaptic partners are
    compared, too.
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


def make_pipeline(request: Request, run: str) -> tuple[Pipeline, list[str]]:
    """The pipeline of a request, and what is wrong with it so far, one sentence each.

    The bounds are where segmentation and truth (or both volumes of clefts) are, unless they are
    given. Nothing is written, and no voxel is read.

    Parameters
    ----------
    request : Request
    run : str
        Folder of the run.

    Raises
    ------
    PlanError
        If the pipeline cannot even be put together; with all mistakes known by then.
    """
    problems = [*_combinations(request), *_unwritable(request.out)]
    limits = _limits(request, problems)
    document = _document(request, run, limits)
    try:
        pipeline = from_dict(document, request.overrides, request.bounds)
    except PlanError as error:
        raise PlanError(*problems, *error.problems) from error
    opened = _opened(pipeline, problems)
    _same_resolution(opened, problems)
    _tell_resolution(document, pipeline, opened, problems)
    pair = next((NEEDED[name] for name in (VOXELS, CLEFTS) if name in request.steps), ())
    bounds = request.bounds
    if pipeline.bounds is None and pair and set(pair) <= set(opened):
        box = _common_bounds(pair, opened, problems)
        bounds = str(box) if box else None
    pipeline = from_dict(document, request.overrides, bounds)
    complete = all(name in opened for name in pipeline.volumes if name not in ("skeletons",))
    if problems and (not complete or (pipeline.bounds is None and request.steps)):
        raise PlanError(*problems)
    return pipeline, problems


def _document(
    request: Request, run: str, limits: Mapping[str, dict[str, dict[str, float]]]
) -> dict[str, Any]:
    """The pipeline as a file would say it."""
    steps = []
    for name in request.steps:
        chosen: dict[str, Any] = {}
        if name == VOXELS and request.border:
            chosen["border"] = request.border
        if name == VOXELS and request.objects:
            chosen["objects"] = list(THRESHOLDS)
        if limits.get(name):
            chosen["require"] = limits[name]
        steps.append({"use": name, "with": chosen})
    if not steps:  # never planned: this reads overrides and bounds as a run would
        steps.append({"use": VOXELS})
    volumes = {name: {"path": path} for name, path in request.volumes.items()}
    return {"run": run, "volumes": volumes, "block": [BLOCK] * 3, "steps": steps}


def _combinations(request: Request) -> list[str]:
    """Options that need one another."""
    found = []
    given = request.volumes
    clefts = [name for name in NEEDED[CLEFTS] if name in given]
    if len(clefts) == 1:
        (other,) = set(NEEDED[CLEFTS]) - set(clefts)
        found.append(f"--{_option(clefts[0])} needs --{_option(other)}")
    if "segmentation" not in given:
        needed = [name for name in ("truth", "skeletons") if name in given]
        if "truth" in needed and request.partners:
            needed.remove("truth")  # neurons are looked up in it
        if "em" in given and not request.steps:
            needed.append("em")
        if not (request.partners or needed or clefts):
            raise PlanError("nothing to score: give --segmentation, --found-clefts or --partners")
        found += [f"--{_option(name)} needs --segmentation" for name in needed]
    elif not {VOXELS, NODES} & set(request.steps):
        raise PlanError("nothing to score against: give --truth, --skeletons or both")
    if "skeletons" not in given:
        found += [f"--{name} needs --skeletons" for name in ORGANELLES if name in given]
    if not {"segmentation", "truth"} <= set(given):
        lacking = "--truth" if "segmentation" in given else "--segmentation"
        asked = {"--objects": request.objects, "--border": bool(request.border)}
        found += [f"{name} needs {lacking}" for name, wanted in asked.items() if wanted]
    if request.bounds and not given:
        found.append("--bounds needs a volume")
    if not request.steps and request.out and _holds_run(request.out):
        found.append(f"--out {request.out}: volumes were scored there; give a folder of its own")
    return found


def _holds_run(out: str) -> bool:
    try:
        return Store(out).read("outline.json") is not None
    except (StorageError, OSError):
        return False  # told by `_unwritable`


def _limits(
    request: Request, problems: list[str]
) -> dict[str, dict[str, dict[str, float]]]:  # by step, then by metric: min, max
    """Limits as the steps take them."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    known = metrics()
    for text in request.require:
        parts = _LIMIT.fullmatch(text)
        number = _number(parts[3]) if parts else None
        if parts is None or number is None:
            problems.append(f"--require {text!r}: expected METRIC<=NUMBER or METRIC>=NUMBER")
            continue
        name = parts[1]
        step = known.get(name)
        if step is None:
            near = closest(name, known)
            problems.append(
                f"--require {text!r}: there is no metric '{name}'{near} (metrics: "
                f"{', '.join(known)})"
            )
        elif step not in request.steps:
            lacking = next(name for name in NEEDED[step] if name not in request.volumes)
            option = f"--{_option(lacking)}"
            problems.append(f"--require {text!r}: '{name}' needs {option}")
        else:
            side = "max" if parts[2] == "<=" else "min"
            found.setdefault(step, {}).setdefault(name, {})[side] = number
    return found


def metrics() -> dict[str, str]:
    """What a limit can be set for, and the step that finds it."""
    from volflow.stages import score, score_clefts, score_skeletons

    return {
        **dict.fromkeys(score.METRICS, VOXELS),
        **dict.fromkeys(score_skeletons.METRICS, NODES),
        **dict.fromkeys(score_clefts.METRICS, CLEFTS),
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def _unwritable(out: str | None) -> list[str]:
    """Why a report cannot be left there; nothing if it can."""
    if out is None:
        return []
    try:
        folder = Address.parse(out).local
        if folder is not None:
            there = Path(folder)
            while not there.exists() and there != there.parent:
                there = there.parent
            if not there.is_dir():
                return [f"--out {out}: {there} is a file; expected a folder"]
            if not os.access(there, os.W_OK | os.X_OK):
                return [f"--out {out}: {there} cannot be written to"]
        return _other_run(out)
    except StorageError as error:
        return [f"--out {out}: {error}"]


def _other_run(out: str) -> list[str]:
    """A run of anything but a scoring must not be overwritten by one."""
    outline = Store(out).read_json("outline.json")
    names = [step["name"] for step in (outline or {}).get("steps", [])]
    if set(names) <= STEPS:
        return []
    return [
        f"--out {out}: another run is there (its steps: {', '.join(names)}); give a folder of "
        f"its own"
    ]


def _opened(pipeline: Pipeline, problems: list[str]) -> dict[str, Volume]:
    """The volumes that can be opened; skeletons are the planner's."""
    found = {}
    for name, spec in pipeline.volumes.items():
        if name == "skeletons":
            continue
        try:
            if Address.parse(spec.path).format in SKELETONS:
                problems.append(f"--{_option(name)} {spec.path}: these are skeletons, no volume")
                continue
            found[name] = Volume.open(spec)
        except (VolflowError, ValueError, OSError) as error:
            problems.append(f"--{_option(name)} {spec.path}: cannot be opened: {error}")
    return found


def _option(volume: str) -> str:
    return "image" if volume == "em" else volume.replace("_", "-")


def _tell_resolution(
    document: dict[str, Any],
    pipeline: Pipeline,
    opened: Mapping[str, Volume],
    problems: list[str],
) -> None:
    """Give the step that compares clefts the sides of their voxels."""
    for step in document["steps"]:
        volume = opened.get(NEEDED[CLEFTS][0])
        if step["use"] != CLEFTS or volume is None:
            continue
        known = pipeline.resolution or volume.resolution
        if known is None:
            problems.append(
                f"--found-clefts {volume.address} does not say how large its voxels are: give "
                f"--set resolution=[z,y,x], in nm"
            )
        else:
            step["with"] = {"resolution": list(known), **step["with"]}


def _same_resolution(opened: Mapping[str, Volume], problems: list[str]) -> None:
    """Volumes that are compared voxel by voxel have voxels of one size."""
    for (name, one), (other, two) in combinations(opened.items(), 2):
        if "em" in (name, other) or one.resolution is None or two.resolution is None:
            continue  # an image is only looked at
        if not np.allclose(one.resolution, two.resolution, rtol=1e-3):
            problems.append(
                f"--{_option(name)} {one.address} has voxels of {_nm(one)} and --{_option(other)} "
                f"{two.address} of {_nm(two)}; another level may have the same "
                f"(--set volumes.{other}.level=1)"
            )


def _nm(volume: Volume) -> str:
    return ", ".join(f"{side:g}" for side in volume.resolution or ()) + " nm (z, y, x)"


def _common_bounds(
    names: tuple[str, ...], opened: Mapping[str, Volume], problems: list[str]
) -> Box | None:
    """Where both volumes have voxels; None, and why, where that cannot be said."""
    one, two = (opened[name] for name in names)
    both = one.bounds.clip(two.bounds)
    if not both.size:
        problems.append(
            f"{one.address} covers {one.bounds} and {two.address} covers {two.bounds}: they do "
            f"not meet"
        )
        return None
    if one.bounds.shape != two.bounds.shape:
        for volume in (one, two):
            if volume.format in UNPLACED and volume.spec.offset is None:
                problems.append(
                    f"--{_option(names[0])} {one.address} has {_sides(one)} voxels and "
                    f"--{_option(names[1])} {two.address} {_sides(two)}, and {volume.format} does "
                    f"not say where a volume lies: give --bounds, or "
                    f"--set volumes.NAME.offset=[z,y,x]"
                )
                return None
    return both


def _sides(volume: Volume) -> str:
    return " x ".join(str(side) for side in volume.bounds.shape)


def cut(pipeline: Pipeline) -> str:
    """What to tell where only a part of a volume is scored; empty if all of it is."""
    if pipeline.bounds is None:
        return ""
    wanted = Box.parse(pipeline.bounds)
    parts = [
        f"{name} has {volume.bounds}"
        for name, volume in _opened(pipeline, []).items()
        if name in (*NEEDED[VOXELS], *NEEDED[CLEFTS]) and volume.bounds != wanted
    ]
    return f"scored where both are: {wanted} ({'; '.join(parts)})" if parts else ""
