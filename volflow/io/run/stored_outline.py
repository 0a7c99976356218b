"""The outline of a run as it is stored, checked before any of its names becomes part of a path."""

from __future__ import annotations

import re
from typing import Any

from volflow.errors import StorageError
from volflow.io.sealed import read_sealed
from volflow.io.store import Store

NAME = "outline.json"
KEYS = ("steps", "layers", "search_path")  # of earlier versions, without a checksum
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def stored_outline(run: str) -> dict[str, Any] | None:
    """The outline of a run; None if there is none.

    Raises
    ------
    StorageError
        If it is damaged: steps, digests and phases must have names that stay within the run.
    """
    outline = read_sealed(Store(run), NAME, KEYS)
    if outline is None:
        return None
    problem = _problem(outline)
    if problem:
        raise StorageError(f"{run}/{NAME} is damaged: {problem}")
    return outline


def _problem(outline: Any) -> str:
    if not isinstance(outline, dict) or not isinstance(outline.get("steps"), list):
        return "expected a list of steps"
    folders = outline.get("search_path", [])
    if not isinstance(folders, list | tuple) or not all(isinstance(f, str) for f in folders):
        return "expected folders in 'search_path'"
    for number, step in enumerate(outline["steps"]):
        if not isinstance(step, dict):
            return f"step {number}: expected keys and values"
        for key in ("name", "digest"):
            if not _is_part(step.get(key)):
                return f"step {number}: expected a {key} of letters and digits"
        after, phases = step.get("after", []), step.get("passes")
        if not isinstance(after, list) or not all(map(_is_part, after)):
            return f"step {number}: expected names of steps in 'after'"
        if not isinstance(phases, list) or not all(map(_is_phase, phases)):
            return f"step {number}: expected names of phases, each with its number of blocks"
    return ""


def _is_part(text: Any) -> bool:
    return isinstance(text, str) and _PART.fullmatch(text) is not None


def _is_phase(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and _is_part(entry[0])
        and isinstance(entry[1], int)
        and 0 <= entry[1] < 1 << 63
    )
