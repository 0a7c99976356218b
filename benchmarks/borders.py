"""What the stage `borders` gains on FIB-25, by its brightness: VI against the truth, in bits.

    python -m benchmarks.borders [--threshold T] [--min-size N] [--weights FILE]

Slabs are segmented alone, one look, at one threshold; then their borders are moved. The network was
trained on sections 0-120; brightness is chosen on 0-135 and reported on 135-165. The last column is
how many parts of up to 10 voxels lie loose from the rest of their segment there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.quality import fib25
from benchmarks.where_bits import SLABS, TRAINED_ON, components
from volflow.checkpoints.find import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.borders import moved_borders
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

LOOSE = 10  # voxels
BRIGHTNESS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0)


def loose(segments: np.ndarray) -> int:
    """How many connected parts have up to `LOOSE` voxels; whole segments have more."""
    _, number = np.unique(segments, return_inverse=True)
    sizes = np.bincount(components(number.reshape(segments.shape) + 1).ravel())
    return int((sizes[1:] <= LOOSE).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--min-size", type=int, default=500)
    how = parser.parse_args()
    checkpoint, header = load_checkpoint(how.weights)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    found: dict[str, list[float]] = {}
    parts: dict[str, int] = {}  # of the last slab
    for slab in SLABS:
        source = open_source(fib25(slab), header.normalisation)
        affinity = predicted(network, source.image)
        before = InMemoryPipeline(affinity).segmentation(how.threshold, how.min_size)
        found.setdefault("not moved", []).append(score(before, source.truth, how.threshold).vi)
        parts["not moved"] = loose(before)
        for brightness in BRIGHTNESS:
            bright = source.image * np.float32(brightness / 2)
            moved = moved_borders(before, affinity, bright)
            vi = score(moved, source.truth, how.threshold).vi
            found.setdefault(f"{brightness:g}", []).append(vi)
            parts[f"{brightness:g}"] = loose(moved)
    trained = sum(int(slab.partition(":")[2]) <= TRAINED_ON for slab in SLABS)
    print("| `brightness` | trained on (mean) | 120-135 | 135-165 | loose |\n|---|---|---|---|---|")
    for name, scores in found.items():
        cells = [float(np.mean(scores[:trained])), *scores[trained:]]
        print(f"| {name} | " + " | ".join(f"{vi:.3f}" for vi in cells) + f" | {parts[name]} |")


if __name__ == "__main__":
    main()
