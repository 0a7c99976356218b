"""Skeletons of a segmentation: the stage through the engine against bare bioimage-cpp.

    python -m benchmarks.shape.skeletons LABELS [--resolution 40,16,16] [--lattice-nm 64]
        [--size 512,512,512] [--block 128,128,128] [--min-size 1000]

LABELS is an address of a segmentation, of which the first SIZE voxels are taken.

    volflow     the pipeline of one step `skeletons`, reading and writing included, in this process
    majority    teasar_labels of bioimage-cpp on labels in memory, pooled by `pyramid` to the same
                voxels: a voxel has the label that most of it has
    any         teasar of bioimage-cpp on the masks of the stage: a voxel has every label in it

One thread, processor time. Pooling is not counted in the last two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from bioimage_cpp import skeleton as bioimage

import volflow
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.io.skeletons import SkeletonSet
from volflow.io.volume import Volume
from volflow.segment.pyramid import pooled_labels
from volflow.shape.runs import block_runs, factor_of, mask_of, segments_of
from volflow.shape.skeletonize import CONSTANT_NM, SCALE

Tree = tuple[np.ndarray, np.ndarray, np.ndarray]


def by_majority(labels: np.ndarray, factor: Triple, side: Resolution) -> tuple[float, list[Tree]]:
    """Seconds and trees of the labels that most of each voxel has."""
    pooled, rest = labels, factor
    while max(rest) > 1:
        z, y, x = (min(2, each) for each in rest)
        pooled, rest = pooled_labels(pooled, (z, y, x)), zyx(rest) // (z, y, x)
    before = time.process_time()
    trees = bioimage.teasar_labels(pooled, spacing=side, scale=SCALE, constant=CONSTANT_NM)
    return time.process_time() - before, list(trees.values())


def by_any(labels: np.ndarray, factor: Triple, side: Resolution) -> tuple[float, list[Tree]]:
    """Seconds and trees of the masks that the stage makes."""
    seconds, trees = 0.0, []
    for _, runs in segments_of(block_runs(labels, (0, 0, 0), factor)):
        mask, _ = mask_of(runs)
        before = time.process_time()
        tree = bioimage.teasar(mask, spacing=side, scale=SCALE, constant=CONSTANT_NM)
        seconds += time.process_time() - before
        trees.append(tree)
    return seconds, trees


def by_volflow(
    labels: np.ndarray, block: Triple, resolution: Resolution, **parameters: Any
) -> tuple[float, list[Tree]]:
    """Seconds and trees of the stage, from volumes on disk to skeletons on disk."""
    with tempfile.TemporaryDirectory() as folder:
        place, bounds = Path(folder), Box((0, 0, 0), labels.shape)
        layer = volflow.Layer("uint64", 0, "segmentation")
        spec = VolumeSpec(path=f"zarr3://{place / 'labels.zarr'}")
        volume, _ = Volume.create(spec, layer, bounds, resolution, (64, 64, 64))
        volume.write(bounds, labels)
        document = {
            "run": str(place / "run"),
            "block": list(block),
            "volumes": {"labels": {"path": spec.path}},
            "steps": [{"use": "skeletons", "with": parameters}],
        }
        before = time.process_time()
        assert volflow.run(document).ok
        seconds = time.process_time() - before
        skeletons, _ = SkeletonSet.open(f"{place}/run/results/skeletons/precomputed").read_all()
    return seconds, [(one.position, one.edges, one.radius) for one in skeletons]


def length_mm(trees: Iterable[Tree]) -> float:
    """Length of all edges in mm."""
    total = 0.0
    for position, edges, _ in trees:
        ends = position[edges.astype(np.int64)]
        total += float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum())
    return total * 1e-6


def count(trees: Iterable[Tree]) -> int:
    """Number of connected trees."""
    return sum(len(position) - len(edges) for position, edges, _ in trees)


def numbers(text: str) -> tuple[Any, Any, Any]:
    z, y, x = (float(word) if "." in word else int(word) for word in text.split(","))
    return z, y, x


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("labels")
    parser.add_argument("--resolution", type=numbers, default=(40, 16, 16))
    parser.add_argument("--lattice-nm", type=float, default=64.0)
    parser.add_argument("--size", type=numbers, default=(512, 512, 512))
    parser.add_argument("--block", type=numbers, default=(128, 128, 128))
    parser.add_argument("--min-size", type=int, default=1000)
    options = parser.parse_args()
    volume = Volume.open(VolumeSpec(path=options.labels))
    labels = volume.read(Box((0, 0, 0), options.size).clip(volume.bounds)).astype(np.uint64)
    names, sizes = np.unique(labels, return_counts=True)
    labels[np.isin(labels, names[sizes < options.min_size])] = 0
    factor = factor_of(options.resolution, options.lattice_nm)
    side = tuple(float(a * b) for a, b in zip(options.resolution, factor, strict=True))
    by_volflow(labels[:16], options.block, options.resolution)  # compiles the kernels
    results = {
        "volflow": by_volflow(
            labels,
            options.block,
            options.resolution,
            lattice_nm=options.lattice_nm,
            min_size=options.min_size,
            budget=1 << 31,
        ),
        "majority": by_majority(labels, factor, side),
        "any": by_any(labels, factor, side),
    }
    print(f"{labels.shape} voxels, {len(names)} labels, computed on voxels of {side} nm")
    for name, (seconds, trees) in results.items():
        print(
            f"{name}: {seconds:.1f} s, {len(trees)} skeletons, {count(trees)} trees, "
            f"{length_mm(trees):.3f} mm"
        )


if __name__ == "__main__":
    main()
