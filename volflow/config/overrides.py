"""Values given on the command line in place of the file's: `--set dotted.key=value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from volflow.config.problems import KeyPath, Problems, closest

STAGE_PARAMETERS = "with"


@dataclass
class Overridden:
    """What a file says after options changed it, and which option gave which path."""

    data: dict[str, Any]
    lines: dict[KeyPath, int]
    options: dict[KeyPath, str] = field(default_factory=dict)

    def put(self, path: KeyPath, value: object, option: str) -> None:
        """Set a value; keys above it that are absent are made."""
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


def apply(
    target: Overridden,
    overrides: Sequence[str],
    fields: dict[str, list[str]],
    problems: Problems,
) -> None:
    """Put every `dotted.key=value` into the data.

    Parameters
    ----------
    target : Overridden
    overrides : sequence of str
        `steps.NAME.KEY` means the key of the step called NAME if a step has such a key, and a
        parameter of its stage otherwise. Values are read as YAML.
    fields : dict
        The keys of the file (""); of a volume ("volumes") and of a step ("steps"), if it has any.
    mistakes : Mistakes
        What cannot be placed or read is noted here.
    """
    for text in overrides:
        option = f"--set {text}"
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problems.add((), f"{option}: expected dotted.key=value")
            continue
        path = _path(key.strip().split("."), target.data, fields)
        if isinstance(path, str):
            problems.add((), f"{option}: {path}")
            continue
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            problems.add((), f"{option}: the value is not YAML: {problem}")
            continue
        try:
            target.put(path, parsed, option)
        except (TypeError, IndexError, KeyError):
            problems.add((), f"{option}: there is nothing that could hold this key")


def _path(parts: list[str], data: dict[str, Any], fields: dict[str, list[str]]) -> KeyPath | str:
    """Where a dotted key goes, or why it goes nowhere."""
    top = fields[""]
    if parts[0] not in top:
        return f"unknown key '{parts[0]}'{closest(parts[0], top)} (known: {', '.join(top)})"
    if parts[0] == "volumes" and "volumes" in fields:
        if len(parts) < 3:
            return "expected volumes.NAME.KEY=value"
        if parts[2] not in fields["volumes"]:
            known = fields["volumes"]
            return f"unknown key '{parts[2]}'{closest(parts[2], known)} (known: {', '.join(known)})"
        return tuple(parts)
    if parts[0] == "steps" and "steps" in fields:
        return _step_path(parts, data, fields["steps"])
    return tuple(parts)


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
    """The names of the steps in a file that may still hold mistakes, in order."""
    steps = data.get("steps")
    names = []
    for step in steps if isinstance(steps, list) else []:
        given = step.get("name") if isinstance(step, dict) else None
        use = step.get("use") if isinstance(step, dict) else None
        names.append(str(given or default_step_name(str(use or ""))))
    return names


def default_step_name(use: str) -> str:
    """The name of a step that is given none: its stage's, for `module:Class` the class's."""
    return use.rpartition(":")[2].lower()
