"""JSON schemas of the YAML files, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from volflow.config.pipeline import Pipeline
from volflow.core.stage import find_stage, installed_stages
from volflow.errors import PlanError

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OWN_STAGE = r"^[\w.]+:\w+$"


def file_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The schema of a file that a model checks: a cluster profile, training or pretraining."""
    return {"$schema": DRAFT, **model.model_json_schema(by_alias=True), "title": title}


def schema() -> dict[str, Any]:
    """The schema of a pipeline file, with the parameters of every installed stage.

    `with` is checked according to `use`; the parameters of the user's own stages are not checked,
    nor those of an installed stage whose module cannot be imported here.
    """
    stages = _stages()
    models: list[tuple[type[BaseModel], Any]] = [(Pipeline, "validation")]
    models += [(stage, "validation") for stage in stages.values() if stage is not None]
    references, together = models_json_schema(models, by_alias=True)
    definitions = together["$defs"]
    definitions["Pipeline"]["properties"]["volumes"]["additionalProperties"] = False
    step = definitions["StepSpec"]
    step["properties"]["use"] = {
        "anyOf": [
            {"enum": sorted(stages)},
            {"type": "string", "pattern": OWN_STAGE, "description": "module:Class of your own"},
        ],
        "description": step["properties"]["use"].get("description", ""),
    }
    step["allOf"] = [
        {
            "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
            "then": _parameters(references[stage, "validation"], bool(_required(stage))),
        }
        for name, stage in sorted(stages.items())
        if stage is not None
    ]
    pipeline = references[Pipeline, "validation"]
    return {"$schema": DRAFT, "title": "volflow pipeline", **pipeline} | {"$defs": definitions}


def _stages() -> dict[str, type[BaseModel] | None]:
    """The installed stages by name, None for one that cannot be imported."""
    stages: dict[str, type[BaseModel] | None] = {}
    for name in installed_stages():
        try:
            stages[name] = find_stage(name)
        except PlanError:
            stages[name] = None
    return stages


def _required(stage: type[BaseModel]) -> list[str]:
    return [name for name, entry in stage.model_fields.items() if entry.is_required()]


def _parameters(reference: dict[str, Any], required: bool) -> dict[str, Any]:
    """The rule for `with` of a stage; a stage with required parameters requires `with`."""
    then: dict[str, Any] = {"properties": {"with": reference}}
    return {**then, "required": ["with"]} if required else then
