"""Stages by their registered names: the entry points `volflow.stages`, or `module:Class`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from types import MappingProxyType

from volflow.core.stage.stage import Stage
from volflow.errors import PlanError


def registered_name(stage: type[Stage]) -> str:
    """The name of an installed stage, or the `module:Class` of a user's own.

    Digests identify a stage by this name, so a stage may move to another module.
    """
    path = f"{stage.__module__}:{stage.__qualname__}"
    return next((name for name, at in installed_stages().items() if at == path), path)


@lru_cache(maxsize=1)
def installed_stages() -> Mapping[str, str]:
    """The `module:Class` of each installed stage, by name."""
    points = entry_points(group="volflow.stages")
    return MappingProxyType({point.name: point.value for point in points})


def find_stage(name: str) -> type[Stage]:
    """The stage with a registered name, or at a `module:Class`.

    Raises
    ------
    PlanError
        If there is none; the message suggests the closest name.
    """
    known = installed_stages()
    module_name, _, class_name = known.get(name, name).partition(":")
    if not class_name:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise PlanError(
            f"there is no stage '{name}'{hint} "
            f"(installed: {', '.join(sorted(known))}; your own: module:Class)"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PlanError(
            f"stage '{name}': module '{module_name}' does not import: {error}"
        ) from error
    stage = getattr(module, class_name, None)
    if not (isinstance(stage, type) and issubclass(stage, Stage)):
        raise PlanError(f"stage '{name}': '{module_name}' has no Stage called '{class_name}'")
    return stage
