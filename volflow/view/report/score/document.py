"""The result of a scoring as one JSON document: inputs, results by step, and the worst errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from volflow.config.pipeline import Pipeline, StepSpec
from volflow.core.stage import find_stage
from volflow.errors import StorageError, VolflowError
from volflow.io.sealed import read_sealed
from volflow.io.store import Store
from volflow.io.volume import Volume
from volflow.view.layers import RunLayers, run_layers
from volflow.view.report.score.detections import detections
from volflow.view.report.score.error_sites import (
    ErrorPart,
    ErrorSite,
    Point,
    Results,
    locate,
    worst_errors,
)

DOCUMENT = "scores.json"
SCORED = (
    "segmentation", "truth", "skeletons", "mito", "clefts", "nuclei", "found_clefts", "true_clefts",
)  # fmt: skip
LABELS = ("segmentation", "truth", "found_clefts", "true_clefts")  # the ids of errors are in these
Document = dict[str, Any]


def is_score(result: Mapping[str, Any]) -> bool:
    """Whether the result of a step contains scores that a report shows."""
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
    """The document of a run's results; independent of the blocks and of the time.

    Parameters
    ----------
    results : mapping
        JSON results by step; those without scores are left out.
    bounds : str
        Voxels, z y x; empty if no volume was scored.
    resolution : 3 float
        Nanometres per voxel, z y x.
    layers : RunLayers or None
        Layers of the run, in whose volumes the errors are located; None without a run.
    version : str
        Version of volflow that scored.
    unmet : sequence of str
        Requirements that are not met.
    tables : mapping of str to str, optional
        Addresses of the tables that were compared, by input.

    Returns
    -------
    dict
        `bounds`, `resolution`, `inputs` (name of the layer and path, by input), `parameters` (by
        step, those that were set), `results`, `unmet`, `errors` (see `ErrorSite`; positions in
        voxels z y x) and `version`.
    """
    scores = {name: dict(result) for name, result in results.items() if is_score(result)}
    z, y, x = (float(side) for side in resolution)
    inputs = {} if layers is None else _inputs(layers, scores)
    sites = worst_errors(scores, (z, y, x))
    if layers is not None:
        sites = locate(sites, _volumes(layers, inputs))
    for name, path in (tables or {}).items():
        inputs.setdefault(name, {"volume": "", "path": path})
    return {
        "bounds": bounds,
        "resolution": [z, y, x],
        "inputs": inputs,
        "parameters": {} if layers is None else _parameters(layers.pipeline, scores),
        "results": scores,
        "unmet": list(unmet),
        "errors": [_json(site) for site in sites],
        "version": version,
    }


def find_document(run: str) -> Document | None:
    """The document of a scoring, or of the score steps of a run; None if there are no scores.

    Parameters
    ----------
    run : str
        Folder or address of the scoring or run.

    Raises
    ------
    StorageError
        If the file named `scores.json` was not written by `volflow score`.
    """
    store = Store(run)
    document = read_sealed(store, DOCUMENT, None)
    if document is not None:
        if not {"errors", "results", "resolution"} <= set(document):
            raise StorageError(f"{run}/{DOCUMENT}: expected the scores of `volflow score`")
        return dict(document)
    summary = read_sealed(store, "summary.json", None)
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
    """Whether there are volumes in which the errors can be viewed."""
    return any(entry["volume"] for entry in document["inputs"].values())


def errors_of(document: Mapping[str, Any]) -> list[ErrorSite]:
    """The errors in a document."""
    return [
        ErrorSite(
            kind=row["kind"],
            rank=int(row["rank"]),
            label=int(row["label"]),
            size=row["size"],
            unit=row["unit"],
            others=int(row["others"]),
            parts=tuple(
                ErrorPart(part["ids"], part["size"], part["unit"], _point(part["position"]))
                for part in row["parts"]
            ),
            place=_point(row["place"]),
            note=row["note"],
        )
        for row in document["errors"]
    ]


def thresholds_of(document: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The scores of several thresholds, ascending, and the best one.

    Sweeps over labels and over skeletons are joined, one row per threshold. The best threshold is
    the one that the sweep names, the one over labels before that over skeletons, otherwise that
    of the smallest `vi`.

    Returns
    -------
    list of dict, dict
        Both empty if only one threshold was scored.
    """
    rows: dict[float, dict[str, Any]] = {}
    best: dict[str, Any] = {}
    sweeps = [result for result in document["results"].values() if _is_sweep(result)]
    for result in sorted(sweeps, key=lambda sweep: "vi" not in sweep["thresholds"][0]):
        for row in result["thresholds"]:
            rows[row["threshold"]] = {**row, **rows.get(row["threshold"], {})}
        best = best or dict(result.get("best") or {})
    if not best:
        scored = [row for row in rows.values() if row.get("vi") is not None]
        best = min(scored, key=lambda row: (row["vi"], row["threshold"]), default={})
    return [rows[key] for key in sorted(rows)], rows.get(best.get("threshold", -1.0), {})


def _is_sweep(result: Mapping[str, Any]) -> bool:
    return isinstance(result.get("thresholds"), list) and bool(result["thresholds"])


def _inputs(layers: RunLayers, results: Results) -> dict[str, dict[str, str]]:
    """The layer of the run that each input of its score steps reads, with its path."""
    paths = {name: spec.path for name, spec in layers.pipeline.volumes.items()}
    paths |= {layer.name: layer.spec.path for layer in layers.layers}
    inputs: dict[str, dict[str, str]] = {}
    for name, wires in _wires(layers.pipeline):
        if name in results:
            for place, volume in wires.items():
                if volume in paths:
                    inputs.setdefault(place, {"volume": volume, "path": paths[volume]})
    return inputs


def _parameters(pipeline: Pipeline, results: Results) -> dict[str, dict[str, Any]]:
    """The parameters that were set for each step, without its limits."""
    given = {step_name(step): step.with_ for step in pipeline.steps}
    return {
        name: {key: value for key, value in given[name].items() if key != "require"}
        for name in results
        if name in given
    }


def step_name(step: StepSpec) -> str:
    """The step's own name, or that of its stage."""
    return step.name or step.use.rpartition(":")[2]


def _wires(pipeline: Pipeline) -> list[tuple[str, dict[str, str]]]:
    """Each step with the layer that each of its inputs reads."""
    wired = []
    for step in pipeline.steps:
        try:
            names = list(find_stage(step.use).inputs())
        except VolflowError:  # a user's own stage that is not installed here
            names = list(SCORED)
        wires = {name: step.in_.get(name, name) for name in names if name in SCORED}
        wired.append((step_name(step), wires))
    return wired


def _volumes(layers: RunLayers, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, Volume]:
    """The volumes that contain the labels of errors, by input."""
    by_name = {layer.name: layer for layer in layers.layers}
    return {
        place: by_name[inputs[place]["volume"]].scales[0]
        for place in LABELS
        if place in inputs and inputs[place]["volume"] in by_name
    }


def _json(site: ErrorSite) -> dict[str, Any]:
    """The error as JSON."""
    document = asdict(site)
    document["place"] = list(site.place)
    document["parts"] = [
        {**part, "ids": dict(part["ids"]), "position": list(part["position"])}
        for part in document["parts"]
    ]
    return document


def _point(values: Sequence[float]) -> Point:
    z, y, x = (float(value) for value in values)
    return (z, y, x)
