"""A scale of half the resolution: the kernel of `pyramid` against tinybrain and tensorstore.

    python -m benchmarks.segmentation.pyramid LABELS [--turns 5]

LABELS is an address of a segmentation, of which 128 x 256 x 256 voxels at most are taken. Each
program gives a voxel the label that most of its eight have; they differ where labels are equally
frequent. One thread, processor time, medians. tinybrain is not a dependency: pip install tinybrain.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorstore as ts

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.io.volume import Volume
from volflow.segment.pyramid import pooled_labels

FACTOR = (2, 2, 2)
LARGEST = (128, 256, 256)


def by_tensorstore(labels: np.ndarray) -> np.ndarray:
    """The labels at half the resolution, by a downsampling view of an array in memory."""
    context = ts.Context({"data_copy_concurrency": {"limit": 1}})
    array = ts.array(labels, context=context)
    return np.asarray(ts.downsample(array, list(FACTOR), "mode").read().result())


def by_tinybrain(labels: np.ndarray) -> np.ndarray:
    """The labels at half the resolution; it takes axes x, y, z and channels."""
    import tinybrain

    turned = labels.T[..., np.newaxis]
    (half,) = tinybrain.downsample_segmentation(turned, FACTOR, num_mips=1)
    return np.asarray(half[..., 0].T)


PROGRAMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "volflow": lambda labels: pooled_labels(labels, FACTOR),
    "tinybrain": by_tinybrain,
    "tensorstore": by_tensorstore,
}


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("labels")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    volume = Volume.open(VolumeSpec(path=options.labels))
    shape = np.minimum(volume.bounds.shape, LARGEST) // 2 * 2
    start = volume.bounds.start
    labels = volume.read(Box(start, (int(a + b) for a, b in zip(start, shape, strict=True))))
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    results = {name: program(labels) for name, program in PROGRAMS.items()}
    for turn in range(options.turns):
        for name in sorted(PROGRAMS, reverse=bool(turn % 2)):
            before = time.process_time()
            PROGRAMS[name](labels)
            taken[name].append(time.process_time() - before)
    for name, seconds in taken.items():
        ratios = [each / own for each, own in zip(seconds, taken["volflow"], strict=True)]
        same = float((results[name] == results["volflow"]).mean())
        print(
            f"{name}: {1000 * statistics.median(seconds):.1f} ms, {statistics.median(ratios):.2f} "
            f"of volflow's time ({min(ratios):.2f} to {max(ratios):.2f}), {same:.1%} of its voxels"
        )


if __name__ == "__main__":
    main()
