"""The kinds of training files, and the functions that each kind is trained with.

A training file names its kind with the key `kind`; without it, the file is about the heads of a
network of voxels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from volflow.config.file import read_yaml
from volflow.config.problems import closest
from volflow.errors import PlanError
from volflow.train.loop import Report


class TrainingFile(Protocol):
    """A checked training file of any kind."""

    @property
    def out(self) -> str:
        """Folder of the training."""
        ...

    @property
    def steps(self) -> int:
        """Number of steps."""
        ...


Config = TypeVar("Config", bound=TrainingFile)


@dataclass(frozen=True)
class Kind(Generic[Config]):
    """The functions of one kind of training.

    Parameters
    ----------
    model : type
        The content of a file; its fields are the keys.
    load : callable
        Reads and checks a file, with overrides.
    problems : callable
        The problems of a file's volumes, one sentence each.
    check : callable
        Raises a PlanError if initial weights do not fit.
    run : callable
        Trains, and returns the path of the best checkpoint.
    export : callable
        Writes a checkpoint to another file in half precision.
    """

    model: type[Config]
    load: Callable[[str | os.PathLike[str], Sequence[str]], Config]
    problems: Callable[[Config], list[str]]
    check: Callable[[Config], None]
    run: Callable[[Config, Report], Path]
    export: Callable[[Path, str], None]


VOXELS = "voxels"
KINDS = {
    VOXELS: "volflow.train.supervised",
    "tracker": "volflow.train.tracker.training",
    "iicats": "volflow.train.sequences.training",
}
"""Modules of the kinds by name; each has a `KIND`."""


def kind_of(path: str | os.PathLike[str]) -> Kind[Any]:
    """The kind of a training file.

    A file that cannot be read has the first kind, whose `load` reports the problem.

    Raises
    ------
    PlanError
        If there is no such kind.
    """
    try:
        data = read_yaml(Path(path).expanduser().read_text(encoding="utf-8")).data
    except (OSError, UnicodeDecodeError):
        data = None
    name = data.get("kind", VOXELS) if isinstance(data, dict) else VOXELS
    if name not in KINDS or (name == VOXELS and isinstance(data, dict) and "kind" in data):
        known = [kind for kind in KINDS if kind != VOXELS]
        raise PlanError(
            f"{path}: kind: expected {' or '.join(known)}, or no kind for a network of voxels; got "
            f"{name!r}{closest(str(name), known)}"
        )
    kind: Kind[Any] = import_module(KINDS[name]).KIND
    return kind
