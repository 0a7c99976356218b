"""The JSON schema of pipeline files, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from volflow.config.pipeline import Pipeline
from volflow.core.stage import find_stage, installed_stages
from volflow.errors import PlanError

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OWN_STAGE = r"^[\w.]+:\w+$"


def schema() -> dict[str, Any]:
    """The schema of a pipeline file, with the parameters of every installed stage.

    `with` is checked by what `use` says; a stage of the user's own is let through. An installed
    stage whose module does not import here keeps its name and loses its parameters.
    """
    stages = _stages()
    models: list[tuple[type[BaseModel], Any]] = [(Pipeline, "validation")]
    models += [(stage, "validation") for stage in stages.values() if stage is not None]
    places, together = models_json_schema(models, by_alias=True)
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
            "then": _with(places[stage, "validation"], bool(_required(stage))),
        }
        for name, stage in sorted(stages.items())
        if stage is not None
    ]
    return {"$schema": DRAFT, "title": "volflow pipeline", **places[Pipeline, "validation"]} | {
        "$defs": definitions
    }


def _stages() -> dict[str, type[BaseModel] | None]:
    found: dict[str, type[BaseModel] | None] = {}
    for name in installed_stages():
        try:
            found[name] = find_stage(name)
        except PlanError:
            found[name] = None
    return found


def _required(stage: type[BaseModel]) -> list[str]:
    return [name for name, entry in stage.model_fields.items() if entry.is_required()]


def _with(reference: dict[str, Any], required: bool) -> dict[str, Any]:
    """The parameters of a stage; a stage that needs some needs `with`."""
    then: dict[str, Any] = {"properties": {"with": reference}}
    return {**then, "required": ["with"]} if required else then
