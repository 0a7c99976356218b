"""The FIB-25 slab for tests: affinities, truth, and where they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import volflow
from tests.public_data import DATA, needs_public_data
from volflow.config.pipeline import VolumeSpec
from volflow.engine.result import RunResult
from volflow.io.volume import Volume

FOLDER = DATA / "fib25_medulla"
AFFINITY = f"hdf5://{FOLDER}/affinity_baseline_z000-165.h5?dataset=affinity"
LABELS = f"hdf5://{FOLDER}/ts2_z000-165.h5"

needs_fib25 = needs_public_data("fib25_medulla")


def segment(run: Path, block: tuple[int, int, int], **rest: Any) -> RunResult:
    """Run the bundled pipeline on the baseline affinities."""
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
