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

from volflow.core.geometry import Box
from volflow.core.mistakes import closest
from volflow.core.pipeline import Pipeline, from_dict
from volflow.errors import PlanError, StorageError, VolflowError
from volflow.io.address import SKELETONS, Address
from volflow.io.store import Store
from volflow.io.volume import Volume
from volflow.metrics.objects import THRESHOLDS

BLOCK = 256  # voxels along each side of a block: nothing is written, so no chunk has a say
VOXELS, NODES = "score", "score_skeletons"
ORGANELLES = ("mito", "clefts", "nuclei")
STEPS = {VOXELS, NODES}
UNPLACED = ("tiff", "hdf5")  # formats that do not say where a volume lies
_LIMIT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Request:
    """What the user asked to be scored, as the options of `volflow score` say it.

    `volumes` holds the addresses that were given: segmentation, truth, skeletons, mito, clefts,
    nuclei, em. With `partners` tables of synaptic partners are compared, too.
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
        if "segmentation" not in self.volumes:
            return ()
        wanted = {VOXELS: "truth", NODES: "skeletons"}
        return tuple(step for step, volume in wanted.items() if volume in self.volumes)


def make_pipeline(request: Request, run: str) -> tuple[Pipeline, list[str]]:
    """The pipeline of a request, and what is wrong with it so far, one sentence each.

    The bounds are where segmentation and truth both are, unless they are given. Nothing is
    written, and no voxel is read.

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
    mistakes = [*_combinations(request), *_unwritable(request.out)]
    limits = _limits(request, mistakes)
    document = _document(request, run, limits)
    try:
        pipeline = from_dict(document, request.overrides, request.bounds)
    except PlanError as error:
        raise PlanError(*mistakes, *error.mistakes) from error
    opened = _opened(pipeline, mistakes)
    _same_resolution(opened, mistakes)
    if pipeline.bounds is None and {"segmentation", "truth"} <= set(opened):
        box = _common_bounds(opened["segmentation"], opened["truth"], mistakes)
        pipeline = from_dict(document, request.overrides, str(box)) if box else pipeline
    complete = all(name in opened for name in pipeline.volumes if name not in ("skeletons",))
    if mistakes and (not complete or (pipeline.bounds is None and request.steps)):
        raise PlanError(*mistakes)
    return pipeline, mistakes


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
    if "segmentation" not in given:
        needed = [name for name in ("truth", "skeletons", "em") if name in given]
        if "truth" in needed and request.partners:
            needed.remove("truth")  # neurons are looked up in it
        if not request.partners and not needed:
            raise PlanError("nothing to score: give --segmentation, or --partners")
        found += [f"--{_option(name)} needs --segmentation" for name in needed]
    elif not request.steps:
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
    request: Request, mistakes: list[str]
) -> dict[str, dict[str, dict[str, float]]]:  # by step, then by metric: min, max
    """Limits as the steps take them."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    known = metrics()
    for text in request.require:
        parts = _LIMIT.fullmatch(text)
        number = _number(parts[3]) if parts else None
        if parts is None or number is None:
            mistakes.append(f"--require {text!r}: wanted METRIC<=NUMBER or METRIC>=NUMBER")
            continue
        name = parts[1]
        step = known.get(name)
        if step is None:
            near = closest(name, known)
            mistakes.append(
                f"--require {text!r}: there is no metric '{name}'{near} (metrics: "
                f"{', '.join(known)})"
            )
        elif step not in request.steps:
            option = "--truth" if step == VOXELS else "--skeletons"
            option = option if "segmentation" in request.volumes else "--segmentation"
            mistakes.append(f"--require {text!r}: '{name}' needs {option}")
        else:
            side = "max" if parts[2] == "<=" else "min"
            found.setdefault(step, {}).setdefault(name, {})[side] = number
    return found


def metrics() -> dict[str, str]:
    """What a limit can be set for, and the step that finds it."""
    from volflow.stages import score, score_skeletons

    return {
        **dict.fromkeys(score.METRICS, VOXELS),
        **dict.fromkeys(score_skeletons.METRICS, NODES),
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
                return [f"--out {out}: {there} is a file; wanted a folder"]
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


def _opened(pipeline: Pipeline, mistakes: list[str]) -> dict[str, Volume]:
    """The volumes that can be opened; skeletons are the planner's."""
    found = {}
    for name, spec in pipeline.volumes.items():
        if name == "skeletons":
            continue
        try:
            if Address.parse(spec.path).format in SKELETONS:
                mistakes.append(f"--{_option(name)} {spec.path}: these are skeletons, no volume")
                continue
            found[name] = Volume.open(spec)
        except (VolflowError, ValueError, OSError) as error:
            mistakes.append(f"--{_option(name)} {spec.path}: cannot be opened: {error}")
    return found


def _option(volume: str) -> str:
    return "image" if volume == "em" else volume


def _same_resolution(opened: Mapping[str, Volume], mistakes: list[str]) -> None:
    """Volumes that are compared voxel by voxel have voxels of one size."""
    for (name, one), (other, two) in combinations(opened.items(), 2):
        if "em" in (name, other) or one.resolution is None or two.resolution is None:
            continue  # an image is only looked at
        if not np.allclose(one.resolution, two.resolution, rtol=1e-3):
            mistakes.append(
                f"--{name} {one.address} has voxels of {_nm(one)} and --{other} {two.address} of "
                f"{_nm(two)}; another level may have the same (--set volumes.{other}.level=1)"
            )


def _nm(volume: Volume) -> str:
    return ", ".join(f"{side:g}" for side in volume.resolution or ()) + " nm (z, y, x)"


def _common_bounds(one: Volume, two: Volume, mistakes: list[str]) -> Box | None:
    """Where both volumes have voxels; None, and why, where that cannot be said."""
    both = one.bounds.clip(two.bounds)
    if not both.size:
        mistakes.append(
            f"{one.address} covers {one.bounds} and {two.address} covers {two.bounds}: they do "
            f"not meet"
        )
        return None
    if one.bounds.shape != two.bounds.shape:
        for volume in (one, two):
            if volume.format in UNPLACED and volume.spec.offset is None:
                mistakes.append(
                    f"--segmentation {one.address} has {_sides(one)} voxels and --truth "
                    f"{two.address} {_sides(two)}, and {volume.format} does not say where a "
                    f"volume lies: give --bounds, or --set volumes.NAME.offset=[z,y,x]"
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
        if name in ("segmentation", "truth") and volume.bounds != wanted
    ]
    return f"scored where both are: {wanted} ({'; '.join(parts)})" if parts else ""
