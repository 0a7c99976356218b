"""Pipelines of toy stages for the tests of the engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from volflow.config.pipeline import VolumeSpec, from_dict
from volflow.core.geometry import Box
from volflow.engine.job import Plan
from volflow.engine.plan.plan import plan
from volflow.io.volume import Volume

TOYS = "tests.engine.toys"
BOUNDS = Box((2, 3, 4), (34, 27, 36))
RESOLUTION = [10, 8, 8]


def toy(name: str, **rest: Any) -> dict[str, Any]:
    """A step that uses a toy stage."""
    return {"use": f"{TOYS}:{name}", "name": name.lower(), **rest}


def planned(run: Path, *steps: dict[str, Any], **rest: Any) -> Plan:
    """The plan of a pipeline of these steps in a folder."""
    only = rest.pop("only", None)
    document = {
        "run": str(run),
        "bounds": str(BOUNDS),
        "block": [8, 8, 8],
        "resolution": RESOLUTION,
        "volumes": {},
        "steps": list(steps),
        **rest,
    }
    return plan(from_dict(document), only=only)


def block_children() -> list[tuple[int, int]]:
    """The processes below this one that run blocks, and the worker of each, by their ids."""
    family = psutil.Process().children(recursive=True)
    known = {process.pid for process in family}
    actual = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends while it is asked
            parent = process.ppid()
            if "volflow.engine.worker.child_main" in process.cmdline() and parent in known:
                actual.append((process.pid, parent))
    return actual


def wait_for(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until something holds; so many seconds are for a machine that is far too busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that within {seconds:.0f} s"
        time.sleep(0.02)


def expected_index() -> np.ndarray:
    """The output of the toy `Index` over the bounds."""
    z, y, x = np.indices(BOUNDS.shape)
    a, b, c = BOUNDS.start
    return ((z + a) * 10_000 + (y + b) * 100 + x + c + 1).astype("uint32")


def layer(run: Path, name: str) -> np.ndarray:
    """All voxels of a layer of the run."""
    volume = Volume.open(VolumeSpec(path=f"precomputed://{run}/{name}"), own=True)
    assert volume.bounds == BOUNDS
    return volume.read(BOUNDS)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
