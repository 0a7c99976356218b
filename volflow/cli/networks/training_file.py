"""Training and pretraining files, checked with their volumes before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from volflow.errors import PlanError

Config = TypeVar("Config")
Function = TypeVar("Function", bound=Callable[..., Any])


def require_torch(activity: str) -> None:
    """Raise an error that is clearer than that of the first module which needs torch.

    Raises
    ------
    PlanError
        If torch cannot be imported.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise PlanError(f"{activity} needs torch, which cannot be imported: {error}") from error


def file_options(example: str) -> Callable[[Function], Function]:
    """Decorator that adds the options of a verb that reads a training or pretraining file."""

    def add(function: Function) -> Function:
        overrides = click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help=f"Replaces a value of the file: steps=500, {example}, out=DIR, "
            "sources.0.image.path=em.zarr. May be repeated.",
        )
        check = click.option(
            "--check", is_flag=True, help="Check the file and the volumes; train nothing."
        )
        return overrides(check(function))

    return add


def load_config(
    path: Path,
    overrides: tuple[str, ...],
    load: Callable[[Path, tuple[str, ...]], Config],
    problems_of: Callable[[Config], Sequence[str]],
) -> Config:
    """The content of a file, its volumes checked.

    Raises
    ------
    PlanError
        With all problems of the file, or of its volumes.
    """
    config = load(path, overrides)
    problems = problems_of(config)
    if problems:
        raise PlanError(*(f"{path}: {text}" for text in problems))
    return config
