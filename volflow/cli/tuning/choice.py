"""A chosen setting, written into a pipeline file: one line changed, all others as they were."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

from volflow.config.file import read_yaml
from volflow.errors import PlanError

_LINE = re.compile(r"(?P<before>\s*(?:- )?[\w-]+:)(?P<value>[^#\n]*?)(?P<after>\s*(?:#.*)?)")


def write_settings(path: str, use: str, settings: dict[str, float | str]) -> None:
    """Set parameters of the step of a stage in a pipeline file; comments and order stay.

    Parameters
    ----------
    path : str
        The file.
    use : str
        The stage; the file must have one step of it.
    settings : dict
        Values by parameter; text is a size in units.

    Raises
    ------
    PlanError
        If the file cannot be read or changed; nothing is written then.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot be read: {error}") from error
    changed = text
    for name, value in settings.items():
        changed = _with_setting(path, changed, use, name, value)
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        temporary.write_text(changed, encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlanError(f"{path}: cannot be written: {error}") from error


def setting_text(value: float | str) -> str:
    """A value as a pipeline file or `--set` has it."""
    return value if isinstance(value, str) else f"{value:g}"


def _with_setting(path: str, text: str, use: str, name: str, value: float | str) -> str:
    """The text with one parameter set; an existing line is changed, or one is added."""
    content = read_yaml(text)
    data = content.data
    steps = data.get("steps") if isinstance(data, dict) and not content.problems else None
    numbers = [
        number
        for number, step in enumerate(steps if isinstance(steps, list) else [])
        if isinstance(step, dict) and step.get("use") == use
    ]
    if len(numbers) != 1:
        raise PlanError(f"{path}: expected a pipeline with one step '{use}', got {len(numbers)}")
    expected = copy.deepcopy(data)
    given = expected["steps"][numbers[0]].setdefault("with", {})
    lines = text.splitlines(keepends=True)
    here = ("steps", numbers[0], "with")
    if name in given:
        number = content.lines[(*here, name)] - 1
        match = _LINE.fullmatch(lines[number].rstrip("\n"))
        if match is not None:
            end = "\n" if lines[number].endswith("\n") else ""
            lines[number] = f"{match['before']} {setting_text(value)}{match['after']}{end}"
    elif given:
        number = content.lines[(*here, next(iter(given)))] - 1
        indent = re.match(r"\s*", lines[number])
        lines.insert(number, f"{indent[0] if indent else ''}{name}: {setting_text(value)}\n")
    given[name] = value
    changed = "".join(lines)
    if not _equal(read_yaml(changed).data, expected):
        raise PlanError(
            f"{path}: expected '{name}' of the step '{use}' on a line of its own; write there "
            f"yourself: {name}: {setting_text(value)}"
        )
    return changed


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)
