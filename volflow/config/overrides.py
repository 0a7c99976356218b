"""Values given on the command line in place of the file's: `--set dotted.key=value`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from volflow.config.file import read_yaml
from volflow.config.keys import (
    KeyPath,
    alternatives,
    is_list,
    is_scalar,
    keys_of,
    model_at,
    type_at,
)
from volflow.config.problems import closest, unknown_key
from volflow.config.stage_class import stage_class
from volflow.errors import PlanError

STAGE_PARAMETERS = "with"
NOWHERE = "there is nothing that could hold this key"


@dataclass
class Overridden:
    """The data of a file after options changed them, and the option that set each path."""

    data: dict[str, Any]
    lines: dict[KeyPath, int]
    options: dict[KeyPath, str] = field(default_factory=dict)
    unreadable: set[KeyPath] = field(default_factory=set)
    """Paths whose values could not be read from the file."""

    def put(self, path: KeyPath, value: object, option: str) -> None:
        """Set a value; missing keys above it are created."""
        here: Any = self.data
        for part in path[:-1]:
            here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
        here[path[-1]] = value
        depth = len(path)
        for old in [known for known in self.lines if known[:depth] == path]:
            del self.lines[old]
        for old in [known for known in self.options if known[:depth] == path]:
            del self.options[old]
        self.options[path] = option


def apply_overrides(
    target: Overridden,
    overrides: Sequence[str],
    model: type[BaseModel],
    folders: Sequence[str] = (),
) -> Iterator[str]:
    """Put every `dotted.key=value` into the data; yield a problem for each that does not fit.

    Parameters
    ----------
    target : Overridden
    overrides : sequence of str
        `steps.NAME.KEY` is a key of the pipeline's step of that name if steps have such a key, and
        a parameter of its stage otherwise. An item of a list is given by its number, from 0.
        Values are YAML; an empty value is an empty string where a string is expected, else null.
    model : type of BaseModel
        Its fields are the keys of the file.
    folders : sequence of str
        Folders in which modules of the user's own stages are searched.
    """
    for text in overrides:
        option = f"--set {text}"
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            yield f"{option}: expected dotted.key=value"
            continue
        path = _path(key.strip().split("."), target.data, model)
        if isinstance(path, str):
            yield f"{option}: {path}"
            continue
        content = read_yaml(value)
        if content.problems:
            problem = content.problems[0].text.removeprefix("this is not YAML: ")
            yield f"{option}: the value is not YAML: {problem}"
            continue
        parsed = content.data
        if not value.strip() and _is_text(_type_of(path, target.data, model, folders)):
            parsed = ""
        try:
            target.put(path, parsed, option)
        except (TypeError, IndexError, KeyError):
            yield f"{option}: {NOWHERE}"


def _type_of(
    path: KeyPath, data: dict[str, Any], model: type[BaseModel], folders: Sequence[str]
) -> Any:
    """The annotation of the value at a path, including parameters of stages; None if unknown."""
    step = path[:2]
    if path[2:3] != (STAGE_PARAMETERS,) or model_at(model, step) is None:
        return type_at(model, path)
    try:
        stage = stage_class(str(data["steps"][step[1]]["use"]), folders)
    except (PlanError, KeyError, TypeError):  # reported when the step is built
        return None
    return type_at(stage, path[3:])


def _is_text(annotation: Any) -> bool:
    """Whether a value of this annotation is a string and cannot be null."""
    options = list(alternatives(annotation))
    return str in options and type(None) not in options


def _path(parts: list[str], data: dict[str, Any], model: type[BaseModel]) -> KeyPath | str:
    """The path of a dotted key, or the problem that it leads nowhere."""
    if parts[0] == "volumes" and "volumes" in keys_of(model) and len(parts) < 3:
        return "expected volumes.NAME.KEY=value"
    steps = model_at(model, ("steps", 0))
    if parts[0] == "steps" and steps is not None:
        return _step_path(parts, data, keys_of(steps))
    path: list[str | int] = []
    here: Any = data
    for text in parts:
        annotation = type_at(model, path)
        if is_scalar(annotation):
            return NOWHERE
        if is_list(annotation):
            count = len(here) if isinstance(here, list) else 0
            if not text.isdigit() or int(text) >= count:
                return f"expected the number of an item, below {count}; got '{text}'"
            path.append(int(text))
            here = here[int(text)]
            continue
        owner = model_at(model, path)
        if owner is not None and text not in keys_of(owner):
            return unknown_key(text, owner)
        path.append(text)
        here = here.get(text) if isinstance(here, dict) else None
    return tuple(path)


def _step_path(parts: list[str], data: dict[str, Any], known: list[str]) -> KeyPath | str:
    if len(parts) < 3:
        return "expected steps.NAME.KEY=value"
    names = step_names(data)
    if parts[1] not in names:
        listed = ", ".join(names) or "none"
        return f"there is no step '{parts[1]}'{closest(parts[1], names)} (steps: {listed})"
    number = names.index(parts[1])
    if parts[2] in known:
        return ("steps", number, *parts[2:])
    return ("steps", number, STAGE_PARAMETERS, *parts[2:])


def step_names(data: dict[str, Any]) -> list[str]:
    """The names of the steps in data that may still have problems, in order."""
    steps = data.get("steps")
    names = []
    for step in steps if isinstance(steps, list) else []:
        given = step.get("name") if isinstance(step, dict) else None
        use = step.get("use") if isinstance(step, dict) else None
        names.append(str(given or default_step_name(str(use or ""))))
    return names


def default_step_name(use: str) -> str:
    """The name of a step without one: its stage's, or for `module:Class` the class's."""
    return use.rpartition(":")[2].lower()
