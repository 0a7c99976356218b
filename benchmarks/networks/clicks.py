"""Cells followed from one click each, in 3D, and the segment of the affinities under the click.

    python -m benchmarks.networks.clicks DATASET ... [--network FILE] [--cells N] [--layers DIR]

A cell is a connected object of the truth, drawn at random from those of at least 2,000 voxels in
five sections or more; the click is the pixel of its largest section that is farthest from its
border. It is followed to both ends, as by the pipeline `follow`. A row has the intersection over
union, in 3D, of each way to find the cell. Data sets are those of `benchmarks.networks.ablation`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.networks.ablation import DATASETS, Dataset, for_each_dataset, intensities
from benchmarks.segmentation.tracks import followed
from benchmarks.segmentation.where_bits import components
from volflow.stages.track import Track
from volflow.train.config.sequences import SequenceSource, SequenceTraining
from volflow.train.sequences.validation import INTENSITY
from volflow.train.sequences.volumes import FollowedVolume, open_volume
from volflow.train.validation.evaluate import InMemoryPipeline

LEAST_VOXELS, LEAST_SECTIONS = 2000, 5


def click(cell: np.ndarray) -> tuple[int, int, int]:
    """The pixel farthest from the border in the largest section of a cell, bool (Z, Y, X)."""
    z = int(cell.sum(axis=(1, 2)).argmax())
    depth = ndimage.distance_transform_edt(np.pad(cell[z], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return z, int(y), int(x)


def drawn(truth: np.ndarray, count: int, seed: int = 0) -> list[np.ndarray]:
    """Cells, bool (Z, Y, X) each, drawn at random."""
    pieces = components(truth)
    sizes = np.bincount(pieces.ravel())
    boxes = ndimage.find_objects(pieces)
    large = [
        n
        for n, box in enumerate(boxes, 1)
        if sizes[n] >= LEAST_VOXELS and box[0].stop - box[0].start >= LEAST_SECTIONS
    ]
    chosen = np.random.default_rng(seed).permutation(len(large))[:count]
    return [pieces == large[n] for n in sorted(chosen)]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def from_click(follower: str, volume: FollowedVolume, point: tuple[int, int, int]) -> np.ndarray:
    """The voxels of a cell that is followed from a point to both ends."""
    layers = {"em": intensities(volume), "affinity": volume.offline["d"]}
    if follower != "affinity":
        layers |= {"mitochondria": volume.offline["m"][0], "clefts": volume.offline["syn"][0]}
    ends = None if follower == "affinity" else INTENSITY
    ahead = Track(follower=follower, points=(point,), part=len(layers["em"]), range=ends)
    first = followed(ahead, **layers)["tracks"]
    back = ahead.model_copy(update={"reverse": True})
    both: np.ndarray = followed(back, **layers, other_way=first)["tracks"]
    return both == 1


def compare(data: Dataset, training: SequenceTraining, options: argparse.Namespace) -> None:
    """Print the table of a data set."""
    volume = open_volume(SequenceSource.model_validate(data.source), training, options.layers)
    affinity = volume.offline["d"]
    segments = InMemoryPipeline(affinity).segmentation(data.threshold, data.min_size)
    print("| click | voxels | segment | follower `affinity` | network |\n|---|---|---|---|---|")
    rows = []
    for cell in drawn(volume.source.truth, options.cells):
        point = click(cell)
        masks = [segments == segments[point]]
        masks += [from_click(name, volume, point) for name in ("affinity", str(options.network))]
        rows.append([overlap(mask, cell) for mask in masks])
        cells = " | ".join(f"{value:.3f}" for value in rows[-1])
        print(f"| {point} | {cell.sum()} | {cells} |", flush=True)
    means = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
    print(f"| mean of {len(rows)} | | {means} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", choices=DATASETS)
    parser.add_argument("--network", type=Path, default=Path("iicats"))
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--layers", type=Path, default=Path("training/iicats"))
    options = parser.parse_args()
    for_each_dataset(options, compare)


if __name__ == "__main__":
    main()
