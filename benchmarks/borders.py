"""What the stage `borders` gains on FIB-25, by its brightness: VI against the truth, in bits.

    python -m benchmarks.borders [--threshold T] [--min-size N] [--weights FILE]

Slabs are segmented alone, one look, at one threshold; then their borders are moved. The network was
trained on sections 0-120; brightness is chosen on 0-135 and reported on 135-165.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.quality import fib25
from benchmarks.where_bits import SLABS, TRAINED_ON
from volflow.core.network import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.borders import moved_borders
from volflow.train.sources import opened
from volflow.train.validation import Road, predicted, score

BRIGHTNESS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--min-size", type=int, default=500)
    how = parser.parse_args()
    checkpoint, header = load_checkpoint(how.weights)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    found: dict[str, list[float]] = {}
    for slab in SLABS:
        source = opened(fib25(slab), header.normalisation)
        affinity = predicted(network, source.image)
        before = Road(affinity).segmentation(how.threshold, how.min_size)
        found.setdefault("not moved", []).append(score(before, source.truth, how.threshold).vi)
        for brightness in BRIGHTNESS:
            bright = source.image * np.float32(brightness / 2)
            moved = moved_borders(before, affinity, bright)
            vi = score(moved, source.truth, how.threshold).vi
            found.setdefault(f"{brightness:g}", []).append(vi)
    trained = sum(int(slab.partition(":")[2]) <= TRAINED_ON for slab in SLABS)
    print("| `brightness` | trained on (mean) | 120-135 | 135-165 |\n|---|---|---|---|")
    for name, scores in found.items():
        cells = [float(np.mean(scores[:trained])), *scores[trained:]]
        print(f"| {name} | " + " | ".join(f"{vi:.3f}" for vi in cells) + " |")


if __name__ == "__main__":
    main()
