"""The pipeline that `volflow score` runs, and the problems of the volumes that it compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from volflow.cli.scoring.request import (
    CLEFTS,
    NEEDED,
    VOXELS,
    Limits,
    Request,
    limits_of,
    option_of,
    option_problems,
)
from volflow.config.pipeline import Pipeline, from_dict
from volflow.core.geometry import Box
from volflow.errors import PlanError, VolflowError
from volflow.io.address import SKELETONS, Address
from volflow.io.inputs import open_input
from volflow.io.volume import Volume
from volflow.metrics.detections.objects import THRESHOLDS

BLOCK = 256  # voxels along each side of a block: no volume is written, so no chunk limits it
UNPLACED = ("tiff", "hdf5")  # formats that do not store the offset of a volume


def make_pipeline(request: Request, run: str) -> tuple[Pipeline, list[str]]:
    """The pipeline of a request, and its problems so far, one sentence each.

    The bounds default to the region that segmentation and truth (or both volumes of clefts)
    share. Nothing is written, and no voxel is read.

    Parameters
    ----------
    request : Request
    run : str
        Folder of the run.

    Raises
    ------
    PlanError
        If no pipeline can be made at all; with all problems known by then.
    """
    problems = list(option_problems(request))
    limits, more = limits_of(request)
    problems += more
    document = _document(request, run, limits)
    try:
        pipeline = from_dict(document, request.overrides, request.bounds)
    except PlanError as error:
        raise PlanError(*problems, *error.problems) from error
    volumes, more = _open_volumes(pipeline)
    problems += more
    problems += _resolution_problems(volumes)
    problems += _set_resolution(document, pipeline, volumes)
    pair = next((NEEDED[name] for name in (VOXELS, CLEFTS) if name in request.steps), ())
    bounds = request.bounds
    if pipeline.bounds is None and pair and set(pair) <= set(volumes):
        box = volumes[pair[0]].bounds.clip(volumes[pair[1]].bounds)
        more = list(_placement_problems(pair, volumes))
        problems += more
        bounds = None if more else str(box)
    pipeline = from_dict(document, request.overrides, bounds)
    complete = all(name in volumes for name in pipeline.volumes if name != "skeletons")
    if problems and (not complete or (pipeline.bounds is None and request.steps)):
        raise PlanError(*problems)
    return pipeline, problems


def _document(request: Request, run: str, limits: Limits) -> dict[str, Any]:
    """The pipeline as the content of a file."""
    steps = []
    for name in request.steps:
        parameters: dict[str, Any] = {}
        if name == VOXELS and request.border:
            parameters["border"] = request.border
        if name == VOXELS and request.objects:
            parameters["objects"] = list(THRESHOLDS)
        if limits.get(name):
            parameters["require"] = limits[name]
        steps.append({"use": name, "with": parameters})
    if not steps:  # never planned; overrides and bounds are read as of any pipeline
        steps.append({"use": VOXELS})
    volumes = {name: {"path": path} for name, path in request.volumes.items()}
    return {"run": run, "volumes": volumes, "block": [BLOCK] * 3, "steps": steps}


def _open_volumes(pipeline: Pipeline) -> tuple[dict[str, Volume], list[str]]:
    """The volumes that can be opened, without skeletons, and the problems of the others."""
    volumes, problems = {}, []
    for name, spec in pipeline.volumes.items():
        if name == "skeletons":
            continue
        try:
            if Address.parse(spec.path).format_name in SKELETONS:
                problems.append(f"{option_of(name)} {spec.path}: expected a volume, got skeletons")
                continue
            shown = name == "em"  # no step reads it, so the plan does not check it
            volumes[name] = open_input(spec) if shown else Volume.open(spec)
        except (VolflowError, ValueError, OSError) as error:
            problems.append(f"{option_of(name)} {spec.path}: cannot be opened: {error}")
    return volumes, problems


def _set_resolution(
    document: dict[str, Any], pipeline: Pipeline, volumes: Mapping[str, Volume]
) -> Iterator[str]:
    """Give the step that compares clefts the size of a voxel; yield a problem if it is unknown."""
    volume = volumes.get(NEEDED[CLEFTS][0])
    for step in document["steps"]:
        if step["use"] != CLEFTS or volume is None:
            continue
        resolution = pipeline.resolution or volume.resolution
        if resolution is None:
            yield (
                f"--found-clefts {volume.address}: unknown voxel size; give "
                f"--set resolution=[z,y,x], in nm"
            )
        else:
            step["with"] = {"resolution": list(resolution), **step["with"]}


def _resolution_problems(volumes: Mapping[str, Volume]) -> Iterator[str]:
    """Volumes that are compared voxel by voxel and differ in the size of a voxel."""
    for (name, one), (other, two) in combinations(volumes.items(), 2):
        if "em" in (name, other) or one.resolution is None or two.resolution is None:
            continue  # the image is shown, not compared
        if not np.allclose(one.resolution, two.resolution, rtol=1e-3):
            yield (
                f"{option_of(name)} {one.address} has voxels of {_nm(one)} and {option_of(other)} "
                f"{two.address} of {_nm(two)}; another level may have the same "
                f"(--set volumes.{other}.level=1)"
            )


def _nm(volume: Volume) -> str:
    return ", ".join(f"{side:g}" for side in volume.resolution or ()) + " nm (z, y, x)"


def _placement_problems(pair: tuple[str, ...], volumes: Mapping[str, Volume]) -> Iterator[str]:
    """The problem of two volumes that do not overlap, or whose relative place is unknown."""
    one, two = (volumes[name] for name in pair)
    if not one.bounds.clip(two.bounds).size:
        yield (
            f"{one.address} covers {one.bounds} and {two.address} covers {two.bounds}: they do "
            f"not overlap"
        )
        return
    unplaced = [v for v in (one, two) if v.format in UNPLACED and v.spec.offset is None]
    if unplaced and one.bounds.shape != two.bounds.shape:
        yield (
            f"{option_of(pair[0])} {one.address} has {_sides(one)} voxels and "
            f"{option_of(pair[1])} {two.address} {_sides(two)}, and {unplaced[0].format} does "
            f"not store the offset of a volume: give --bounds, or "
            f"--set volumes.NAME.offset=[z,y,x]"
        )


def _sides(volume: Volume) -> str:
    return " x ".join(str(side) for side in volume.bounds.shape)


def partial_bounds_note(pipeline: Pipeline) -> str:
    """A note on volumes of which only a part is scored; empty if all of each is."""
    if pipeline.bounds is None:
        return ""
    scored = Box.parse(pipeline.bounds)
    volumes, _ = _open_volumes(pipeline)
    parts = [
        f"{name} has {volume.bounds}"
        for name, volume in volumes.items()
        if name in (*NEEDED[VOXELS], *NEEDED[CLEFTS]) and volume.bounds != scored
    ]
    return f"scored where the volumes overlap: {scored} ({'; '.join(parts)})" if parts else ""
