"""A synthetic volume with neurites, synapses and mitochondria, stored for runs that read it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.synth import Neuropil
from volflow.synth.synapses import CLEFT, POST, PRE

BOUNDS = Box((0, 0, 0), (48, 96, 96))
RESOLUTION = (10.0, 10.0, 10.0)
SHAPES: tuple[Triple, ...] = ((48, 96, 96), (32, 32, 32), (17, 50, 41))


@lru_cache
def tissue() -> tuple[dict[str, np.ndarray], dict[int, tuple[int, int]]]:
    """Volumes by name, and the true pre- and postsynaptic neurite of each synapse."""
    scene = Neuropil(BOUNDS, seed=5, cell=10, synapses=True).scene(BOUNDS, mitochondria=True)
    assert scene.table is not None
    names, pre, post, _ = scene.table
    sides = np.stack([np.where(scene.sides == part, 255, 0) for part in (CLEFT, PRE, POST)])
    clefts = np.where(scene.sides == CLEFT, scene.synapses, 0).astype(np.uint64)
    volumes = {
        "em": scene.rendered.image,
        "clefts": clefts,
        "probability": sides.astype(np.uint8),
        "segmentation": scene.rendered.truth,
        "mitochondria": scene.mitochondria,
    }
    inside = set(np.unique(clefts[clefts > 0]).tolist())
    pairs = zip(names.tolist(), pre.tolist(), post.tolist(), strict=True)
    return volumes, {name: (one, other) for name, one, other in pairs if name in inside}


def stored(folder: Path) -> dict[str, dict[str, Any]]:
    """The volumes of a pipeline's document, stored in a folder."""
    declared = {}
    for name, array in tissue()[0].items():
        address = f"zarr3://{folder / name}.zarr"
        kind: Any = "image" if name in ("em", "probability") else "segmentation"
        layer = Layer(array.dtype.name, 3 if array.ndim == 4 else 0, kind)
        volume, _ = Volume.create(VolumeSpec(path=address), layer, BOUNDS, RESOLUTION, (48, 48, 48))
        volume.write(BOUNDS, array)
        declared[name] = {"path": address}
    return declared


def document(
    run: Path, volumes: dict[str, Any], *steps: dict[str, Any], block: Triple = SHAPES[1]
) -> dict[str, Any]:
    """A pipeline over these volumes, as far as its steps read them."""
    return {"run": str(run), "block": list(block), "volumes": volumes, "steps": list(steps)}


def files(run: Path) -> dict[str, bytes]:
    """The files that the steps left under `results`, by their paths."""
    paths = sorted(path for path in (run / "results").rglob("*") if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}
