"""VI of FIB-25 with perfect tracks voted into the affinities, against the affinities alone.

    python -m benchmarks.segmentation.votes [--sections A:B] [--threshold T] [--min-size N]

Perfect tracks are the connected components of the truth in the sections. The best that any
segmentation of the sections alone can reach is the VI of the components themselves (*floor*), as
neurons whose parts are connected only outside the sections count as split.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.networks.quality import sections
from benchmarks.segmentation.where_bits import components
from volflow.checkpoints.find import WEIGHTS
from volflow.core.geometry import Box
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.track.votes import eroded, voted
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

WEIGHTS_OF_VOTES = (0.0, 0.5, 2.0)
EROSIONS = (0, 1)


def mixed(affinity: np.ndarray, tracks: np.ndarray, weight: float, erode: int) -> np.ndarray:
    """Affinities with the votes of one run over the whole volume."""
    box = Box((0, 0, 0), tracks.shape)
    return voted(affinity, [eroded(tracks, erode)], box, box, tracks.shape, weight)


class Part(NamedTuple):
    """Affinities uint8 (3, Z, Y, X) and truth (Z, Y, X) of some sections of FIB-25."""

    affinity: np.ndarray
    truth: np.ndarray


def predicted_part(weights: Path, numbers: str) -> Part:
    """Sections A:B, with the affinities of a network to which the image around them is shown."""
    first, last = map(int, numbers.split(":"))
    checkpoint, header = load_checkpoint(weights)
    part = sections(first, last)["around"]
    source, scored = open_source(part.shown, header.normalisation), slice(*part.scored)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    affinity = np.ascontiguousarray(predicted(network, source.image)[:, scored])
    return Part(affinity, source.truth[scored])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--sections", default="120:135")
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--min-size", type=int, default=1000)
    arguments = parser.parse_args()
    affinity, truth = predicted_part(arguments.weights, arguments.sections)
    tracks = components(truth).astype(np.uint64)
    print(f"sections {arguments.sections}, floor {score(tracks, truth, 0).vi:.3f}")
    print("| weight | erode | VI split | VI merge | VI |\n|---|---|---|---|---|")
    for weight, erode in product(WEIGHTS_OF_VOTES, EROSIONS):
        if not weight and erode:
            continue
        pipeline = InMemoryPipeline(mixed(affinity, tracks, weight, erode))
        segments = pipeline.segmentation(arguments.threshold, arguments.min_size)
        each = score(segments, truth, arguments.threshold)
        cells = f"{each.vi_split:.3f} | {each.vi_merge:.3f} | {each.vi:.3f}"
        print(f"| {weight} | {erode} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
