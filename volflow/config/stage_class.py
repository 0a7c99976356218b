"""The class of a stage that a pipeline uses, installed or the user's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from volflow.core.stage import Stage, find_stage
from volflow.core.stage.faults import exits_raise, fault_text
from volflow.errors import PlanError


def stage_class(use: str, folders: Sequence[str]) -> type[Stage]:
    """The class of a stage.

    Parameters
    ----------
    use : str
        Name of an installed stage, or `module:Class` of the user's own.
    folders : sequence of str
        Folders in which modules of the user's own are searched, after all installed ones.

    Raises
    ------
    PlanError
        If there is no such stage, or its module cannot be imported.
    """
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that a file there hides no installed module
    importlib.invalidate_caches()
    try:
        with exits_raise():
            return find_stage(use)
    except (PlanError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a user's module may raise anything when it is imported
        raise PlanError(f"stage '{use}' does not import: {fault_text(error)}") from error
