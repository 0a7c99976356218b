"""Files bundled with volflow: pipelines, trainings and cluster profiles.

In a wheel they are inside the package, in a checkout next to it.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from volflow.errors import PlanError

PACKAGE = Path(__file__).parent.parent


def bundled(folder: str) -> dict[str, Path]:
    """The YAML files of a bundled folder (`pipelines`, `deploy`) by name without the ending."""
    for parent in (PACKAGE, PACKAGE.parent):
        files = sorted((parent / folder).glob("*.yaml"))
        if files:
            return {path.stem: _short(path) for path in files}
    return {}


def _short(path: Path) -> Path:
    """The path relative to the working directory if it is below, as messages show it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def find_bundled(text: str | os.PathLike[str], folder: str, noun: str) -> Path:
    """The YAML file at a path, or the bundled one of that name.

    Parameters
    ----------
    text : path
        A file, or `segment`, `segment.yaml` or `pipelines/segment.yaml` for a bundled one.
    folder : str
        `pipelines`, `pipelines/train`, `pipelines/pretrain` or `deploy`.
    noun : str
        Name of the kind of file in an error: `pipeline`, `cluster profile`.

    Raises
    ------
    PlanError
        If there is neither; the closest name is suggested.
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
            f"there is no {noun} '{text}'{hint} (bundled: {', '.join(known)}; or a path to a file)"
        )
    raise PlanError(f"there is no {noun} at {text}")
