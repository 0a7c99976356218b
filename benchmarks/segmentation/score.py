"""Voxel scores of two large volumes: independence of blocks, memory and speed.

    python -m benchmarks.segmentation.score blocks [SIDE]    1024: three block shapes, JSON, memory
    python -m benchmarks.segmentation.score pairs [SIDE]     512: against scikit-image, in turns

The truth is a synthetic volume of 256³, repeated with new labels in every copy. The segmentation is
the truth shifted by a few voxels (so that every border is wrong), with pairs of labels merged and
labels cut in two. Memory is the largest sum over the processes of a run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import psutil

import volflow
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume
from volflow.metrics.voxels.contingency import contingency, scores
from volflow.stages.synth import Synth

TILE = 256
SHAPES = ([128, 128, 256], [64, 512, 128], [1024, 64, 80])
MOVED = (2, 3, 1)  # voxels
ROUNDS = 3


def truth_tile() -> np.ndarray:
    """Labels of a synthetic volume, uint64, numbered from 1."""
    bounds = Box((0, 0, 0), (TILE,) * 3)
    labels = np.zeros(bounds.shape, np.uint64)
    stage = Synth.model_validate({})
    for block in BlockGrid(bounds, (128,) * 3, stage.halo_on(bounds, (128,) * 3)):
        labels[block.write.slices] = stage.run(block)["truth"]
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint64) + 1


def pair(tile: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and segmentation of one copy; labels of different copies differ."""
    truth = tile + np.uint64(number * int(tile.max()))
    moved = np.roll(truth, MOVED, axis=(0, 1, 2))
    merged = moved // np.uint64(3) * np.uint64(2)  # labels 3n, 3n+1 and 3n+2 become one
    merged[TILE // 2 :] += np.uint64(1)  # and labels across the middle are cut
    return truth, merged


def write(folder: Path, side: int) -> dict[str, str]:
    """Write a pair of volumes of this side; their addresses."""
    bounds, tile = Box((0, 0, 0), (side,) * 3), truth_tile()
    volumes = {}
    for name in ("truth", "segmentation"):
        spec = VolumeSpec(path=f"zarr3://{folder}/{name}")
        layer = Layer("uint64", 0, "segmentation")
        volumes[name], _ = Volume.create(spec, layer, bounds, (10, 10, 10), (128,) * 3)
    for number, block in enumerate(BlockGrid(bounds, (TILE,) * 3)):
        inside = block.write.shift(tuple(-a for a in block.write.start)).slices
        for name, labels in zip(volumes, pair(tile, number), strict=True):
            volumes[name].write(block.write, labels[inside])
    return {name: f"zarr3://{folder}/{name}" for name in volumes}


class Peak(threading.Thread):
    """Thread that records the largest memory of all child processes together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.stop = 0, threading.Event()

    def run(self) -> None:
        own = psutil.Process()
        while not self.stop.wait(0.1):
            total = 0
            for process in own.children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)


def blocks(side: int) -> None:
    """Score one pair in blocks of three shapes, and compare the results."""
    with tempfile.TemporaryDirectory() as folder:
        places = write(Path(folder), side)
        print("| blocks | seconds | peak of all workers (MiB) | JSON |\n|---|---|---|---|")
        documents = []
        for shape in SHAPES:
            peak, start = Peak(), time.perf_counter()
            peak.start()
            result = volflow.run(
                {
                    "run": f"{folder}/run{'-'.join(map(str, shape))}",
                    "volumes": {name: {"path": path} for name, path in places.items()},
                    "block": shape,
                    "steps": [{"use": "score"}],
                },
                cluster="local",
                workers=2,
            )
            peak.stop.set()
            assert result.ok
            documents.append(json.dumps(result.results["score"], sort_keys=True))
            took = time.perf_counter() - start
            same = "the same" if documents[0] == documents[-1] else "DIFFERENT"
            print(f"| {shape} | {took:.0f} | {peak.most >> 20} | {same} |", flush=True)
        values = json.loads(documents[0])
        print(f"VI {values['vi']:.6f}, ARAND {values['arand']:.6f}, {values['voxels']:,} voxels")


def pairs(side: int) -> None:
    """Print the seconds of scikit-image and of volflow for VI and ARAND, on a pair in memory."""
    from skimage.metrics import adapted_rand_error, variation_of_information

    copies = -(-side // TILE)
    tile = truth_tile()
    truth, segmentation = (np.zeros((copies * TILE,) * 3, np.uint64) for _ in range(2))
    for number, block in enumerate(BlockGrid(Box((0, 0, 0), truth.shape), (TILE,) * 3)):
        truth[block.write.slices], segmentation[block.write.slices] = pair(tile, number)
    truth, segmentation = (
        np.ascontiguousarray(a[:side, :side, :side]) for a in (truth, segmentation)
    )
    scores(contingency(truth[:8], segmentation[:8]))  # compiles

    def theirs() -> tuple[float, float]:
        split, merge = variation_of_information(truth, segmentation, ignore_labels=(0,))
        return float(split + merge), float(adapted_rand_error(truth, segmentation)[0])

    def ours() -> tuple[float, float]:
        values = scores(contingency(truth, segmentation))
        return float(values["vi"]), float(values["arand"])

    taken: dict[str, list[float]] = {"scikit-image": [], "volflow": []}
    for turn in range(ROUNDS):
        results = []
        for name, work in (("scikit-image", theirs), ("volflow", ours)):
            took, values = timed(work)
            taken[name].append(took)
            results.append(values)
        print(
            f"turn {turn}: {taken['scikit-image'][-1]:.1f} s, {taken['volflow'][-1]:.2f} s",
            flush=True,
        )
        assert np.allclose(*results, rtol=0, atol=1e-9), results
    rate = {name: truth.size / median(values) / 1e6 for name, values in taken.items()}
    print(f"Mvoxel/s: {rate}; ratio {rate['volflow'] / rate['scikit-image']:.1f}; values {results}")


def timed(work: Callable[[], tuple[float, float]]) -> tuple[float, tuple[float, float]]:
    start = time.perf_counter()
    values = work()
    return time.perf_counter() - start, values


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    command, *rest = sys.argv[1:] or ["blocks"]
    {"blocks": blocks, "pairs": pairs}[command](
        int(rest[0]) if rest else {"blocks": 1024, "pairs": 512}[command]
    )
