"""What a scoring found, as one JSON document: inputs, results by step, and the worst errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volflow.config.pipeline import Pipeline, StepSpec
from volflow.core.stage import find_stage
from volflow.errors import StorageError, VolflowError
from volflow.io.store import Store
from volflow.io.volume import Volume
from volflow.view.neuroglancer.layers import RunLayers, run_layers
from volflow.view.report.detections import detections
from volflow.view.report.offenders import Offender, Part, Point, Results, offenders, placed

DOCUMENT = "scores.json"
SCORED = (
    "segmentation", "truth", "skeletons", "mito", "clefts", "nuclei", "found_clefts", "true_clefts",
)  # fmt: skip
LABELS = ("segmentation", "truth", "found_clefts", "true_clefts")  # in which errors have their ids
Document = dict[str, Any]


def is_score(result: Mapping[str, Any]) -> bool:
    """Whether the result of a step is one that a report can show."""
    known = "vi" in result or "erl" in result or isinstance(result.get("thresholds"), list)
    return known or bool(detections(result))


def make_document(
    results: Results,
    *,
    bounds: str,
    resolution: Sequence[float],
    layers: RunLayers | None,
    version: str,
    unmet: Sequence[str] = (),
    tables: Mapping[str, str] | None = None,
) -> Document:
    """The document of a run's results; the same whatever the blocks, and at any time.

    Parameters
    ----------
    results : mapping
        JSON results by step; those that are no scores are left out.
    bounds : str
        Voxels, z y x; empty where no volume was scored.
    resolution : 3 float
        Nanometres per voxel, z y x.
    layers : RunLayers or None
        Of the run: the places of errors are looked for in its volumes. None where nothing was run.
    version : str
        Of the volflow that scored.
    unmet : sequence of str
        Requirements that are not met.
    tables : mapping of str to str, optional
        Addresses of what was compared beside volumes, by what it is.

    Returns
    -------
    dict
        `bounds`, `resolution`, `inputs` (volume and path by input), `parameters` (by step, those
        that were given), `results`, `unmet`, `errors` (see `Offender`; positions in voxels
        z y x) and `version`.
    """
    told = {name: dict(result) for name, result in results.items() if is_score(result)}
    z, y, x = (float(side) for side in resolution)
    inputs = {} if layers is None else _inputs(layers, told)
    found = offenders(told, (z, y, x))
    if layers is not None:
        found = placed(found, _volumes(layers, inputs))
    for name, path in (tables or {}).items():
        inputs.setdefault(name, {"volume": "", "path": path})
    return {
        "bounds": bounds,
        "resolution": [z, y, x],
        "inputs": inputs,
        "parameters": {} if layers is None else _parameters(layers.pipeline, told),
        "results": told,
        "unmet": list(unmet),
        "errors": [_json(each) for each in found],
        "version": version,
    }


def find_document(run: str) -> Document | None:
    """The document that a scoring left in its folder, or that of a run's score steps, if any.

    Raises
    ------
    StorageError
        If what lies there is none.
    """
    store = Store(run)
    document = store.read_json(DOCUMENT)
    if document is not None:
        if not {"errors", "results", "resolution"} <= set(document):
            raise StorageError(f"{run}/{DOCUMENT} is not what `volflow score` leaves")
        return dict(document)
    summary = store.read_json("summary.json")
    if summary is None or not any(map(is_score, summary["results"].values())):
        return None
    return make_document(
        summary["results"],
        bounds=summary["bounds"],
        resolution=summary["resolution"],
        layers=run_layers(run),
        version=summary["version"],
        unmet=summary.get("unmet", ()),
    )


def can_be_viewed(document: Mapping[str, Any]) -> bool:
    """Whether there are volumes in which the errors can be looked at."""
    return any(each["volume"] for each in document["inputs"].values())


def errors_of(document: Mapping[str, Any]) -> list[Offender]:
    """The errors in a document."""
    return [
        Offender(
            kind=row["kind"],
            rank=int(row["rank"]),
            label=int(row["label"]),
            size=row["size"],
            unit=row["unit"],
            others=int(row["others"]),
            parts=tuple(
                Part(part["ids"], part["size"], part["unit"], _point(part["position"]))
                for part in row["parts"]
            ),
            place=_point(row["place"]),
            note=row["note"],
        )
        for row in document["errors"]
    ]


def thresholds_of(document: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The scores of several thresholds, ascending, and the best of them; empty where there is one.

    What the sweeps over labels and over skeletons say of a threshold is one row. The best is the
    one that the sweep over labels names, otherwise that of the smallest `vi`, or of the largest
    `erl` where no labels were swept.
    """
    rows: dict[float, dict[str, Any]] = {}
    told: dict[str, Any] = {}
    sweeps = [found for found in document["results"].values() if _is_sweep(found)]
    for result in sorted(sweeps, key=lambda found: "vi" not in found["thresholds"][0]):
        for row in result["thresholds"]:
            rows[row["threshold"]] = {**row, **rows.get(row["threshold"], {})}
        told = told or dict(result.get("best") or {})
    if not told:
        known = [row for row in rows.values() if row.get("vi") is not None]
        told = min(known, key=lambda row: (row["vi"], row["threshold"]), default={})
    return [rows[key] for key in sorted(rows)], rows.get(told.get("threshold", -1.0), {})


def _is_sweep(result: Mapping[str, Any]) -> bool:
    return isinstance(result.get("thresholds"), list) and bool(result["thresholds"])


def _inputs(layers: RunLayers, results: Results) -> dict[str, dict[str, str]]:
    """Which volume of the run stands for each input of its score steps, and where that is."""
    paths = {name: spec.path for name, spec in layers.pipeline.volumes.items()}
    paths |= {layer.name: layer.spec.path for layer in layers.layers}
    found: dict[str, dict[str, str]] = {}
    for name, wires in _wires(layers.pipeline):
        if name in results:
            for place, volume in wires.items():
                if volume in paths:
                    found.setdefault(place, {"volume": volume, "path": paths[volume]})
    return found


def _parameters(pipeline: Pipeline, results: Results) -> dict[str, dict[str, Any]]:
    """What the steps were told, beside their limits."""
    given = {step_name(step): step.with_ for step in pipeline.steps}
    return {
        name: {key: value for key, value in given[name].items() if key != "require"}
        for name in results
        if name in given
    }


def step_name(step: StepSpec) -> str:
    """A step's own name, or that of its stage."""
    return step.name or step.use.rpartition(":")[2]


def _wires(pipeline: Pipeline) -> list[tuple[str, dict[str, str]]]:
    """The steps with what each of their inputs is wired to."""
    found = []
    for step in pipeline.steps:
        try:
            names = list(find_stage(step.use).inputs())
        except VolflowError:  # a stage of somebody's own, from elsewhere
            names = list(SCORED)
        wires = {name: step.in_.get(name, name) for name in names if name in SCORED}
        found.append((step_name(step), wires))
    return found


def _volumes(
    layers: RunLayers, inputs: Mapping[str, Mapping[str, str]]
) -> dict[str, Volume]:  # those in which errors of voxels have their ids
    by_name = {layer.name: layer for layer in layers.layers}
    return {
        place: by_name[inputs[place]["volume"]].scales[0]
        for place in LABELS
        if place in inputs and inputs[place]["volume"] in by_name
    }


def _json(each: Offender) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "rank": each.rank,
        "label": each.label,
        "size": each.size,
        "unit": each.unit,
        "others": each.others,
        "place": list(each.place),
        "note": each.note,
        "parts": [
            {
                "ids": dict(part.ids),
                "size": part.size,
                "unit": part.unit,
                "position": list(part.position),
            }
            for part in each.parts
        ],
    }


def _point(values: Sequence[float]) -> Point:
    z, y, x = (float(value) for value in values)
    return (z, y, x)
