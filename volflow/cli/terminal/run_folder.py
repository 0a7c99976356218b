"""Folders of runs: temporary ones, and the pipeline that is stored in a run."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from volflow.errors import VolflowError

if TYPE_CHECKING:
    from volflow.config.pipeline import Pipeline


@contextlib.contextmanager
def run_folder(folder: str | None) -> Iterator[str]:
    """The given folder, or a temporary one for a run of one step.

    The temporary folder is removed unless blocks failed: `volflow block` can then run them alone.
    """
    if folder:
        yield folder
        return
    temporary = tempfile.mkdtemp(prefix="volflow-")
    try:
        yield temporary
    except SystemExit:
        raise
    except BaseException:
        shutil.rmtree(temporary)
        raise
    shutil.rmtree(temporary)


def holds_run(address: str) -> bool:
    """Whether the folder or address holds a run."""
    from volflow.io.run import stored_pipeline

    if os.path.isfile(address):
        return False
    with contextlib.suppress(VolflowError):
        return stored_pipeline.holds_run(address)
    return False


def stored_pipeline(
    address: str, overrides: tuple[str, ...] = (), bounds: str | None = None
) -> Pipeline:
    """The pipeline that is stored in a run, as it was resolved when the run was last started.

    Raises
    ------
    PlanError
        If the address holds no run, or its pipeline is damaged.
    """
    from volflow.config.pipeline import from_dict
    from volflow.io.run.stored_outline import stored_outline
    from volflow.io.run.stored_pipeline import stored_document

    document = stored_document(address)
    outline = stored_outline(address) or {}
    known = [*sys.path]
    # Folders of the user's own stages; last, so that a file there hides no installed module.
    sys.path += [folder for folder in outline.get("search_path", []) if folder not in known]
    return from_dict(document, (f"run={address}", *overrides), bounds)
