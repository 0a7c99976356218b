"""Causes of the VI of a network on FIB-25, in slabs that it was trained on and in others.

    python -m benchmarks.segmentation.where_bits [--weights FILE] [--threshold T] [--min-size N]

Each slab is segmented alone, without flips. Its VI against the truth is divided into, in bits:

    returning   neurons whose parts are connected only outside the slab count as split: VI of the
                truth's own connected components
    borders     of the rest, VI if every fragment were joined to the component with which it shares
                most voxels: fragments that reach over borders
    merging     the remainder: wrong and missing joins
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.measure import label

from benchmarks.networks.quality import fib25
from volflow.checkpoints.find import WEIGHTS
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

SLABS = ("0:30", "30:60", "60:90", "90:120", "120:135", "135:165")
TRAINED_ON = 120  # sections


def components(truth: np.ndarray) -> np.ndarray:
    """Connected components of the truth (face neighbours), int32 from 1; 0 where unknown."""
    numbers: np.ndarray = label(np.maximum(truth, 0), background=0, connectivity=1)
    return numbers.astype(np.int32)


def best_joined(pieces: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fragments renamed to the true label with which they share most voxels, uint64."""
    known = truth > 0
    _, piece = np.unique(pieces, return_inverse=True)
    piece = piece.reshape(pieces.shape)
    width = int(truth.max()) + 1
    pair, count = np.unique(
        piece[known].astype(np.int64) * width + truth[known], return_counts=True
    )
    named = np.zeros(piece.max() + 1, np.uint64)
    order = np.argsort(count, kind="stable")  # the largest overlap of a fragment is last
    named[pair[order] // width] = pair[order] % width
    renamed: np.ndarray = named[piece]
    return renamed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "fib25-lsd.safetensors")
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--min-size", type=int, default=500)
    arguments = parser.parse_args()
    checkpoint, header = load_checkpoint(arguments.weights)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    print("| sections | VI | returning | borders | merging |\n|---|---|---|---|---|")
    for slab in SLABS:
        source = open_source(fib25(slab), header.normalisation)
        pipeline = InMemoryPipeline(predicted(network, source.image))
        segments = pipeline.segmentation(arguments.threshold, arguments.min_size)
        parts = components(source.truth)
        total = score(segments, source.truth, arguments.threshold).vi
        returning = score(parts.astype(np.uint64), source.truth, 0).vi
        borders = score(best_joined(pipeline.pieces, parts), parts, 0).vi
        ours = " (trained on)" if int(slab.partition(":")[2]) <= TRAINED_ON else ""
        rest = total - returning - borders
        print(f"| {slab}{ours} | {total:.3f} | {returning:.3f} | {borders:.3f} | {rest:.3f} |")


if __name__ == "__main__":
    main()
