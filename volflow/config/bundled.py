"""Files that travel with volflow: pipelines and cluster profiles.

In a wheel they lie inside the package, in a checkout beside it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from volflow.errors import PlanError

PACKAGE = Path(__file__).parent.parent


def bundled(folder: str) -> dict[str, Path]:
    """The YAML files of a shipped folder (`pipelines`, `deploy`), by name without the ending."""
    for parent in (PACKAGE, PACKAGE.parent):
        found = sorted((parent / folder).glob("*.yaml"))
        if found:
            return {path.stem: _short(path) for path in found}
    return {}


def _short(path: Path) -> Path:
    """The path from here if it lies below: it stands in messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def find_bundled(text: str | os.PathLike[str], folder: str, noun: str) -> Path:
    """The YAML file at a path, or the shipped one of that name.

    Parameters
    ----------
    text : path
        A file, or `segment`, `segment.yaml` or `pipelines/segment.yaml` for a shipped one.
    folder : str
        `pipelines` or `deploy`.
    noun : str
        What is being looked for, as an error calls it.

    Raises
    ------
    PlanError
        If there is neither; names that look alike are offered.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    known = bundled(folder)
    if path.parent in (Path(), Path(folder)) and path.suffix in ("", ".yaml", ".yml"):
        if path.stem in known:
            return known[path.stem]
        close = difflib.get_close_matches(path.stem, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise PlanError(
            f"there is no {noun} '{text}'{hint} (shipped: {', '.join(known)}; or a path to a file)"
        )
    raise PlanError(f"there is no {noun} at {text}")
