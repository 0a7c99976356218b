"""The FIB-25 slab of the benchmarks, and larger volumes made of its mirror images.

    python -m benchmarks.data FOLDER SIDE     mirrored affinities of SIDE³ voxels in FOLDER

The data are not part of the project: VOLFLOW_DATA is the folder that contains `fib25_medulla`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.public_data import DATA
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.core.stage import Layer
from volflow.io.volume import Volume

FIB25 = DATA / "fib25_medulla"
AFFINITY = f"hdf5://{FIB25}/affinity_baseline_z000-165.h5?dataset=affinity"
RESOLUTION = (10.0, 10.0, 10.0)
CHUNK = (64, 64, 64)


def labels(dataset: str) -> str:
    """Address of labels of the slab: neuron_ids (the ground truth), ffn or overseg."""
    return f"hdf5://{FIB25}/ts2_z000-165.h5?dataset={dataset}"


def reflected(size: int, length: int) -> np.ndarray:
    """Indices 0 1 .. size-1 .. 1 0 1 .., back and forth without repeating the ends; int64."""
    if size < 2:
        raise ValueError(f"size: expected two voxels or more to mirror; got {size}")
    period = 2 * (size - 1)
    index = np.arange(length) % period
    return np.minimum(index, period - index)


def mirror_labels(labels: np.ndarray, box: Box) -> np.ndarray:
    """The mirrored volume of labels or grey values within a box, (z, y, x)."""
    sides = zip(labels.shape, box.start, box.stop, strict=True)
    return labels[np.ix_(*(reflected(size, stop)[start:] for size, start, stop in sides))]


def mirror_affinity(affinity: np.ndarray, box: Box) -> np.ndarray:
    """The mirrored volume of affinities within a box, (3, z, y, x).

    The affinity between the source voxels p - 1 and p is stored at p. In a backward copy along
    axis c, the voxel before the one shown is p + 1, and their affinity is stored at p + 1:

        shown voxel       0    1    2    3    2    1    0    1
        its affinity      -   a1   a2   a3   a3   a2   a1   a1
    """
    shown = []
    for axis in range(3):
        index = reflected(affinity.shape[1 + axis], box.stop[axis])
        before = np.concatenate([index[:1], index[:-1]])
        shown.append((index[box.start[axis] :], np.maximum(index, before)[box.start[axis] :]))
    return np.stack(
        [
            affinity[channel][np.ix_(*(shown[axis][axis == channel] for axis in range(3)))]
            for channel in range(3)
        ]
    )


def mirrored(folder: Path, shape: Triple) -> str:
    """The address of the slab's affinities, mirrored to `shape` voxels; written if missing."""
    bounds = Box((0, 0, 0), shape)
    spec = VolumeSpec(path=f"zarr://{folder}/affinity-{'x'.join(map(str, shape))}")
    layer = Layer("uint8", 3, "affinity")
    volume, new = Volume.create(spec, layer, bounds, RESOLUTION, CHUNK)
    if new:
        slab = Volume.open(VolumeSpec(path=AFFINITY, resolution=RESOLUTION))
        affinity = slab.read(slab.bounds)
        for block in BlockGrid(bounds, CHUNK):
            volume.write(block.write, mirror_affinity(affinity, block.write))
    return spec.path


if __name__ == "__main__":
    target, side = Path(sys.argv[1]), int(sys.argv[2])
    print(mirrored(target.absolute(), (side, side, side)))
