"""Partners of synthetic synapses: precision and recall on true neurons, from true and other clefts.

    python -m benchmarks.shape.partners [--side 160] [--min-size 20]

Synthetic neuropil of SIDE / 2 x SIDE x SIDE voxels of 10 nm. Its synapses, as probabilities of
cleft, pre and post, go through the pipeline `synapse_table`:

    true        clefts as they are, in the stage `synapses` alone
    blurred     sides with normal noise of 0.5, both blurred by a Gaussian of 1 voxel, then clipped;
                objects of at least MIN_SIZE (20) voxels

and are scored as `volflow score --partners` does, with the neurons at both sites.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import volflow
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution
from volflow.core.stage import Layer
from volflow.io.tables.columns import csv_of
from volflow.io.volume import Volume
from volflow.synth import Neuropil
from volflow.synth.synapses import CLEFT, POST, PRE

VOXEL: Resolution = (10.0, 10.0, 10.0)
BLUR, NOISE = 1.0, 0.5


def write(folder: Path, name: str, array: np.ndarray, bounds: Box, kind: Any) -> str:
    address = f"zarr3://{folder / name}.zarr"
    layer = Layer(array.dtype.name, 3 if array.ndim == 4 else 0, kind)
    volume, _ = Volume.create(VolumeSpec(path=address), layer, bounds, VOXEL, (64, 64, 64))
    volume.write(bounds, array)
    return address


def true_table(scene: Any) -> dict[str, np.ndarray]:
    """The middles of both sides of each synapse that has all its parts in the volume."""
    names, pre, post, _ = scene.table
    middles = []
    for part in (PRE, POST):
        own = np.where(scene.sides == part, scene.synapses, 0)
        middles.append(np.array(ndimage.center_of_mass(own > 0, own, names)) * VOXEL)
    whole = np.isin(names, np.unique(scene.synapses[scene.sides == CLEFT]))
    whole &= np.isfinite(middles[0]).all(axis=1) & np.isfinite(middles[1]).all(axis=1)
    columns = {}
    for side, place in zip(("pre", "post"), middles, strict=True):
        columns |= {f"{side}_{axis}": place[whole, n] for n, axis in enumerate("zyx")}
    return {**columns, "pre_neuron": pre[whole], "post_neuron": post[whole]}


def score(folder: Path, run: Path, truth: str) -> str:
    words = ["score", "--partners", str(run / "results/synapses.csv"), "--truth", truth]
    words += ["--true-partners", str(folder / "true.csv"), "--json"]
    command = [sys.executable, "-m", "volflow", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scores = json.loads(done.stdout)["partners"]
    return ", ".join(f"{name} {scores[name]:.3f}" for name in ("precision", "recall", "f1"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--min-size", type=int, default=20)
    given = parser.parse_args()
    bounds = Box((0, 0, 0), (given.side // 2, given.side, given.side))
    scene = Neuropil(bounds, seed=1, cell=14, synapses=True).scene(bounds, mitochondria=False)
    sides = np.stack([scene.sides == part for part in (CLEFT, PRE, POST)]).astype(np.float32)
    noisy = sides + np.random.default_rng(0).normal(0, NOISE, sides.shape).astype(np.float32)
    blurred = np.stack([ndimage.gaussian_filter(side, BLUR) for side in noisy])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = true_table(scene)
        (folder / "true.csv").write_text(csv_of(table))
        print(f"{bounds}: {len(table['pre_neuron'])} synapses")
        truth = write(folder, "truth", scene.rendered.truth, bounds, "segmentation")
        clefts = np.where(scene.sides == CLEFT, scene.synapses, 0).astype(np.uint64)
        exact = write(folder, "exact", (255 * sides).astype(np.uint8), bounds, "image")
        bytes_of = (255 * blurred.clip(0, 1)).round().astype(np.uint8)
        probability = write(folder, "probability", bytes_of, bounds, "image")
        document = {
            "run": str(folder / "true"),
            "block": [64, 64, 64],
            "volumes": {
                "clefts": {"path": write(folder, "clefts", clefts, bounds, "segmentation")},
                "probability": {"path": exact},
                "segmentation": {"path": truth},
            },
            "steps": [{"use": "synapses"}],
        }
        assert volflow.run(document).ok
        print("true     ", score(folder, folder / "true", truth))
        overrides = [f"run={folder / 'blurred'}", "block=[64,64,64]"]
        overrides += [
            f"volumes.segmentation.path={truth}",
            f"steps.objects.min_size={given.min_size}",
        ]
        source = f"volumes.synapse.path={probability}"
        assert volflow.run("synapse_table", overrides=[*overrides, source]).ok
        print("blurred  ", score(folder, folder / "blurred", truth))


if __name__ == "__main__":
    main()
