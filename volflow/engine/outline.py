"""An outline of a plan, stored in the run: its steps and layers, for other processes."""

from __future__ import annotations

from typing import Any

from volflow.core.stage import Layer
from volflow.engine.job import Plan
from volflow.engine.phases.annotations import annotated_volume
from volflow.engine.phases.objects_by_id import objects_shown, paths_with_objects
from volflow.io.run.stored_outline import NAME
from volflow.io.run.stored_pipeline import store_pipeline
from volflow.io.sealed import write_sealed
from volflow.io.store import Store


def write_outline(plan: Plan) -> None:
    """Write the resolved pipeline and the outline of a plan into the run."""
    store_pipeline(plan.pipeline)
    steps = [
        {
            "name": step.name,
            "digest": step.digest,
            "after": list(step.after),
            "passes": [[job.phase.name, len(job.phase.grid)] for job in step.jobs],
            "targets": [[target.spec.path, target.scale] for target in step.targets],
        }
        for step in plan.steps
    ]
    body = {
        "steps": steps,
        "layers": layers(plan),
        "annotations": annotation_layers(plan),
        "search_path": plan.search_path,
    }
    write_sealed(Store(plan.pipeline.run), NAME, body)


def annotation_layers(plan: Plan) -> list[dict[str, str]]:
    """The steps that leave annotations, and the layer whose ids these contain ("": unknown)."""
    paths = {step.name: annotated_volume(plan.steps, step) for step in plan.steps}
    names = {entry["path"]: entry["name"] for entry in layers(plan)}
    return [
        {"step": step, "segmentation": names.get(path, "")}
        for step, path in paths.items()
        if path is not None
    ]


def layers(plan: Plan) -> list[dict[str, Any]]:
    """The volumes that a plan reads and writes, for a viewer: in the order of the steps.

    A segmentation whose objects a step leaves by id (`Grouping.by_id`) has `skeletons` or `meshes`,
    the name of that step.
    """
    entries: dict[str, dict[str, Any]] = {}
    names = {spec: name for name, spec in plan.pipeline.volumes.items()}
    for step in plan.steps:
        for job in step.jobs:
            for input_name, source in job.sources.items():
                spec = source.foreign_volume
                if spec is not None and spec in names:
                    kind = type(step.stage).wants.get(input_name, Layer()).kind
                    entry = {"path": spec.path, "kind": kind, "written": False}
                    entries.setdefault(names[spec], entry)
        for target in step.targets:
            if target.scale == 0 and step.bounds == plan.bounds:  # not in closed z
                path = target.spec.path
                declared = [n for n, spec in plan.pipeline.volumes.items() if spec.path == path]
                name = declared[0] if declared else path.rpartition("/")[2]
                entries[name] = {"path": path, "kind": target.layer.kind, "written": True}
        shown = objects_shown(step)
        for entry in entries.values() if shown else ():
            if entry["path"] in paths_with_objects(step):
                entry[shown] = step.name
    return [{"name": name, **entry} for name, entry in entries.items()]
