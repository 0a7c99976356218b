"""Gain of the stage `borders` on FIB-25, by its brightness: VI against the truth, in bits.

    python -m benchmarks.segmentation.borders [--threshold T] [--min-size N] [--weights FILE]

Slabs are segmented alone, without flips, at one threshold; then their borders are moved. The
network was trained on sections 0-120; brightness is chosen on 0-135 and reported on 135-165. The
last column is the number of parts of up to 10 voxels that are disconnected from the rest of their
segment there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.networks.quality import fib25
from benchmarks.segmentation.where_bits import SLABS, TRAINED_ON, components
from volflow.checkpoints.find import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.borders import moved_borders
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

SPECK = 10  # voxels
BRIGHTNESS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0)


def count_specks(segments: np.ndarray) -> int:
    """Number of connected parts of up to `SPECK` voxels; whole segments have more."""
    _, number = np.unique(segments, return_inverse=True)
    sizes = np.bincount(components(number.reshape(segments.shape) + 1).ravel())
    return int((sizes[1:] <= SPECK).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--min-size", type=int, default=500)
    arguments = parser.parse_args()
    checkpoint, header = load_checkpoint(arguments.weights)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    scores: dict[str, list[float]] = {}
    specks: dict[str, int] = {}  # in the last slab
    for slab in SLABS:
        source = open_source(fib25(slab), header.normalisation)
        affinity = predicted(network, source.image)
        before = InMemoryPipeline(affinity).segmentation(arguments.threshold, arguments.min_size)
        vi = score(before, source.truth, arguments.threshold).vi
        scores.setdefault("not moved", []).append(vi)
        specks["not moved"] = count_specks(before)
        for brightness in BRIGHTNESS:
            bright = source.image * np.float32(brightness / 2)
            moved = moved_borders(before, affinity, bright)
            vi = score(moved, source.truth, arguments.threshold).vi
            scores.setdefault(f"{brightness:g}", []).append(vi)
            specks[f"{brightness:g}"] = count_specks(moved)
    trained = sum(int(slab.partition(":")[2]) <= TRAINED_ON for slab in SLABS)
    print(
        "| `brightness` | trained on (mean) | 120-135 | 135-165 | specks |\n|---|---|---|---|---|"
    )
    for name, vis in scores.items():
        cells = [float(np.mean(vis[:trained])), *vis[trained:]]
        print(f"| {name} | " + " | ".join(f"{vi:.3f}" for vi in cells) + f" | {specks[name]} |")


if __name__ == "__main__":
    main()
