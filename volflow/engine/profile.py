"""Cluster profiles: which workers do the blocks, how many, and for how long at most."""

from __future__ import annotations

from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from volflow.core.pipeline import Spec
from volflow.core.shipped import find_shipped
from volflow.errors import PlanError


class Profile(Spec):
    """What a cluster profile says; the command line may change it."""

    cluster: str
    """`none` (this process), `local` (this machine), or tcp://HOST:PORT of a Dask scheduler."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Default: one per core, fewer where memory is short."""
    timeout: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that one block may take; 0 is no limit."""


def find_profile(text: str, workers: int | None = None, timeout: float | None = None) -> Profile:
    """The profile that `--cluster` names.

    Parameters
    ----------
    text : str
        `none`, the address of a scheduler, a shipped profile (`local`) or a file.
    workers, timeout : optional
        What is given takes the place of what the profile says.

    Raises
    ------
    PlanError
        If there is no such profile, or it is not a right one.
    """
    profile = Profile(cluster=text) if text == "none" or "://" in text else _read(text)
    given = {"workers": workers, "timeout": timeout}
    return profile.model_copy(update={k: v for k, v in given.items() if v is not None})


def _read(text: str) -> Profile:
    path = find_shipped(text, "deploy", "cluster profile")
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise PlanError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        raise PlanError(
            *(
                f"{path}: {'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
                for item in error.errors()
            )
        ) from error
