"""Folders of runs: temporary ones, and the pipeline that a run stores."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from volflow.errors import PlanError, VolflowError

if TYPE_CHECKING:
    from volflow.config.pipeline import Pipeline


@contextlib.contextmanager
def run_folder(kept: str | None) -> Iterator[str]:
    """A folder for a run of one step: the one given, or one that goes when all went well.

    Where blocks failed it stays, so that `volflow block` can run them alone.
    """
    if kept:
        yield kept
        return
    folder = tempfile.mkdtemp(prefix="volflow-")
    try:
        yield folder
    except SystemExit:
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def holds_run(address: str) -> bool:
    """Whether a run was started at the address."""
    from volflow.io.store import Store

    if os.path.isfile(address):
        return False
    with contextlib.suppress(VolflowError):
        return Store(address).read("pipeline.yaml") is not None
    return False


def stored_pipeline(
    address: str, overrides: tuple[str, ...] = (), bounds: str | None = None
) -> Pipeline:
    """The pipeline that a run keeps, as it was resolved when it was started.

    Raises
    ------
    PlanError
        If nothing was ever run there.
    """
    import yaml

    from volflow.config.pipeline import from_dict
    from volflow.io.store import Store

    text = Store(address).read("pipeline.yaml")
    if text is None:
        raise PlanError(f"{address} holds no run (it has no pipeline.yaml)")
    outline = Store(address).read_json("outline.json") or {}
    known = [*sys.path]  # where the stages of the user's own were imported from
    sys.path += [folder for folder in outline.get("search_path", []) if folder not in known]
    return from_dict(yaml.safe_load(text), (f"run={address}", *overrides), bounds)
