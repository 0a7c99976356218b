"""The FIB-25 slab for tests: affinities, truth, and where they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

import volflow
from volflow.config.pipeline import VolumeSpec
from volflow.engine.result import RunResult
from volflow.io.volume import Volume

DATA = Path(os.environ.get("VOLFLOW_DATA", Path(__file__).parents[3] / "shared" / "data"))
FOLDER = DATA / "fib25_medulla"
AFFINITY = f"hdf5://{FOLDER}/affinity_baseline_z000-165.h5?dataset=affinity"
LABELS = f"hdf5://{FOLDER}/ts2_z000-165.h5"

needs_fib25 = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no FIB-25 data at {FOLDER} (set VOLFLOW_DATA to the folder that holds it)",
)


def segment(run: Path, block: tuple[int, int, int], **rest: Any) -> RunResult:
    """Run the shipped pipeline on the baseline affinities."""
    parameters = rest.pop("parameters", {})
    overrides = [
        f"run={run}",
        f"volumes.affinity.path={AFFINITY}",
        "volumes.affinity.resolution=[10,10,10]",
        f"block={list(block)}",
        *(f"steps.agglomerate.{name}={value}" for name, value in parameters.items()),
    ]
    return volflow.run("segment", overrides=overrides, **rest)


def fingerprint(run: Path, name: str = "segmentation", level: int = 0) -> str:
    """A digest of all voxels of a layer, their ids and its bounds."""
    volume = Volume.open(VolumeSpec(path=f"precomputed://{run}/{name}", level=level), own=True)
    voxels = volume.read(volume.bounds)
    return f"{volume.bounds} {hashlib.sha256(voxels.tobytes()).hexdigest()}"
