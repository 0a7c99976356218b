"""Write docs/stages.md: every stage with its inputs, outputs and parameters.

    python docs/make_stages.py

The text is taken from docstrings, parameters and their ranges from pydantic, so the page cannot
differ from the code; a test checks that it is up to date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from volflow.core.stage import (
    Chain,
    Columns,
    Grouping,
    Layer,
    Reduction,
    Stage,
    Table,
    installed_stages,
)
from volflow.core.stage import find_stage as find

PAGE = Path(__file__).parent / "stages.md"

EXAMPLES: dict[str, Any] = {
    "threshold": 0.3,
    "model": "fib25-affinity",
    "resolution": [40, 4, 4],
}
"""Values of required parameters, to ask a stage for its outputs."""

RESULT = "`results/STEP.json`"

HEAD = """# Stages and their parameters

<!-- Made by `python docs/make_stages.py` from the docstrings of the stages; do not edit. -->

A stage is used in a pipeline by its name: `use: NAME`, parameters after `with:`, other volumes than
those of the same name after `in:` and `out:` ([README](../README.md#a-pipeline)). Shapes and
coordinates are z, y, x, in voxels unless a name ends in `_nm`. `volflow schema` prints the same as
a JSON schema. A stage of your own: [write a stage](write-a-stage.md).

"""


def page() -> str:
    """The text of docs/stages.md."""
    stages = {name: find(name) for name in sorted(installed_stages())}
    rows = ["| stage | result |", "|---|---|"]
    rows += [f"| [{name}](#{name}) | {first_line(stage)} |" for name, stage in stages.items()]
    parts = [section(name, stage) for name, stage in stages.items()]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(parts)


def first_line(stage: type[BaseModel]) -> str:
    return (inspect.getdoc(stage) or "").partition("\n")[0]


def section(name: str, stage: type[Stage]) -> str:
    """The heading, description, inputs, outputs and parameters of a stage."""
    lines = [f"## {name}", "", *description(stage), "", f"*{kind(stage)}.* {wires(stage)}", ""]
    lines += parameters(stage)
    for model in parts_of(stage):
        lines += [f"### {name}: {model.__name__}", "", first_line(model), "", *parameters(model)]
    return "\n".join(lines)


def description(stage: type[Stage]) -> list[str]:
    """The docstring as Markdown: headings of numpydoc become bold."""
    text = inspect.getdoc(stage) or ""
    text = re.sub(r"^(\w[\w ]*)\n-{3,}$", r"**\1**\n", text, flags=re.MULTILINE)
    # entries of a numpydoc section, `name : type` over an indented meaning
    text = re.sub(r"^(\S[^\n:]*?) : (.+)\n((?:    \S.*\n?)+)", entry, text, flags=re.MULTILINE)
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        indented = line.startswith("    ")
        if indented and not fenced and not (lines and lines[-1].strip()):
            lines.append("```text")
            fenced = True
        elif fenced and line.strip() and not indented:
            while not lines[-1].strip():
                lines.pop()
            lines += ["```", ""]
            fenced = False
        lines.append(line)
    return [*lines, "```"] if fenced else lines


def entry(match: re.Match[str]) -> str:
    """An entry of a section as an item of a list."""
    name, type_name, meaning = match.groups()
    return f"- `{name}`: {type_name}. {' '.join(meaning.split())}\n"


def kind(stage: type[Stage]) -> str:
    bases = {Reduction: "Reduction", Grouping: "Grouping", Chain: "Chain"}
    return next((name for base, name in bases.items() if issubclass(stage, base)), "Map")


def wires(stage: type[Stage]) -> str:
    """Inputs and outputs in one line."""
    inputs = [
        f"`{name}`{expected(stage.wants.get(name))}{'' if required else ', optional'}"
        for name, required in stage.inputs().items()
    ]
    outputs = [f"`{name}`{expected(layer)}" for name, layer in declared_outputs(stage).items()]
    text = f"Reads {'; '.join(inputs) or 'nothing'}."
    return f"{text} Writes {'; '.join(outputs) or RESULT}."


def declared_outputs(stage: type[Stage]) -> dict[str, Layer | Columns]:
    """The outputs with default parameters, and `EXAMPLES` for required ones."""
    required = {
        name: EXAMPLES[name] for name, field in stage.model_fields.items() if field.is_required()
    }
    return dict(stage(**required).outputs)


def expected(layer: Layer | Columns | None) -> str:
    """Type, channels and kind of a layer in brackets."""
    if layer is None:
        return ""
    if isinstance(layer, Table):
        return " (a table of the whole volume)"
    if isinstance(layer, Columns):
        return " (a table per block)"
    channels = {None: "", 0: ""}.get(layer.channels, f"{layer.channels} channels")
    words = [word for word in (layer.dtype, channels, layer.kind) if word]
    return f" ({', '.join(words)})" if words else ""


def parameters(model: type[BaseModel]) -> list[str]:
    """The table of a model's fields."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    if not properties:
        return ["No parameters.", ""]
    rows = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        shown = properties[field.alias or name]
        default = "required" if field.is_required() else f"`{plain(default_of(field))}`"
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{field.alias or name}` | {type_of(shown, schema)} | {default} | {text} |")
    return [*rows, ""]


def default_of(field: Any) -> Any:
    return field.get_default(call_default_factory=True)


def plain(value: Any) -> str:
    """A default as it would be written in YAML."""
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else "''"


def type_of(shown: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type of a JSON schema in words, with its range."""
    if "$ref" in shown:
        name = shown["$ref"].rpartition("/")[2]
        inner = schema["$defs"][name]
        return name if inner.get("type") == "object" else type_of(inner, schema)
    if "anyOf" in shown or "oneOf" in shown:
        kinds = [type_of(item, schema) for item in shown.get("anyOf", shown.get("oneOf"))]
        return " or ".join(dict.fromkeys(kinds))
    if "allOf" in shown:
        return type_of(shown["allOf"][0], schema)
    if "enum" in shown:
        return ", ".join(f"`{plain(value)}`" for value in shown["enum"])
    if "const" in shown:
        return f"`{plain(shown['const'])}`"
    if shown.get("type") == "array":
        return array_type(shown, schema)
    if shown.get("type") == "object":
        inside = shown.get("additionalProperties")
        return f"map of {type_of(inside, schema)}" if isinstance(inside, dict) else "map"
    if shown.get("type") == "string" and "examples" in shown:
        return f"text: `{shown['examples'][0]}`"
    words = {"integer": "int", "number": "float", "string": "text", "boolean": "true or false"}
    name = words.get(shown.get("type", ""), shown.get("type", "any"))
    limits = [
        f"{sign} {plain(shown[key])}"
        for key, sign in (
            *(("minimum", "≥"), ("exclusiveMinimum", ">")),
            *(("maximum", "≤"), ("exclusiveMaximum", "<")),
        )
        if key in shown
    ]
    if limits and {"minimum", "maximum"} <= shown.keys():
        return f"{name} {plain(shown['minimum'])} to {plain(shown['maximum'])}"
    return f"{name} {', '.join(limits)}".rstrip()


def array_type(shown: dict[str, Any], schema: dict[str, Any]) -> str:
    items = shown.get("prefixItems")
    if items:
        return f"{len(items)} x {type_of(items[0], schema)}"
    return f"list of {type_of(shown.get('items', {}), schema)}"


def parts_of(stage: type[Stage]) -> list[type[BaseModel]]:
    """The models that parameters of a stage consist of."""
    models: list[type[BaseModel]] = []
    waiting: list[Any] = [field.annotation for field in stage.model_fields.values()]
    while waiting:
        item = waiting.pop(0)
        if inspect.isclass(item) and issubclass(item, BaseModel):
            if item not in models:
                models.append(item)
                waiting += [field.annotation for field in item.model_fields.values()]
        else:
            waiting += getattr(item, "__args__", ())
    return models


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
