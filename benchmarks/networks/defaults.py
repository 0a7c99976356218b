"""Defaults of the pipeline `segneuron`, chosen by the worst of several volumes.

    python -m benchmarks.networks.defaults CACHE [--weights FILE] [--thresholds T,T,...]

Every volume is a part that the network was not trained on and that no table reports. Single
sections are predicted and segmented one by one, as a user with one section does. A setting costs a
volume its VI minus that of the volume's own best setting; the setting with the lowest cost on its
worst volume is chosen. Sizes are volumes, and areas in single sections, as voxels differ from
volume to volume. The mask is chosen afterwards: membranes count in no score, so a mask can
only cost. Predictions are kept in the folder CACHE.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.networks.methods import DATA, Slab, cord, fib, gala, isbi
from volflow.checkpoints.find import find_network
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage.units import size_in_voxels
from volflow.io.volume import Volume
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.fill import filled
from volflow.segment.restrict import masked, restricted
from volflow.train.data.samples import Source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

THRESHOLDS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
MIN_SIZES = (
    "0 µm³ or 0 µm²",
    "0.0002 µm³ or 0.002 µm²",
    "0.0003 µm³ or 0.004 µm²",
    "0.0005 µm³ or 0.006 µm²",
    "0.0007 µm³ or 0.008 µm²",
    "0.001 µm³ or 0.017 µm²",
)
Labels: TypeAlias = list[np.ndarray]
FILLS = (0, 40)  # nanometres
MASKS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


class Setting(NamedTuple):
    """The parameters of a segmentation; `soft`: affinities restricted to the foreground."""

    soft: bool
    threshold: float
    min_size: str


class Scores(NamedTuple):
    """VI in bits and its two parts, the adapted Rand error, the share of the largest segment."""

    vi: float
    vi_split: float
    vi_merge: float
    arand: float
    largest: float


@dataclass(frozen=True)
class Choosing:
    """A volume to choose on: a slab, in its own voxels or in those of the network."""

    slab: Slab
    native: bool = False


def ac3(sections: str) -> Slab:
    return Slab("ac3_ac4_cortex/ac3_12nm_z000-100.h5", f"{sections},0:256,0:256")


def corner(slab: Slab, side: int) -> Slab:
    """The first `side` x `side` pixels of a slab."""
    return replace(slab, bounds=f"{slab.bounds.partition(',')[0]},0:{side},0:{side}")


CHOOSING = {
    "fib25 120-135": Choosing(fib("120:135")),
    "gala 35-40": Choosing(gala("35:40")),
    "cortex AC3 60-70": Choosing(ac3("60:70"), native=True),
    "cord 9-11, sections": Choosing(corner(cord("9:11"), 512)),
    "isbi 16-18, sections": Choosing(isbi("16:18")),
    "isbi 16-18, sections of 4 nm": Choosing(corner(isbi("16:18"), 256), native=True),
}


class Part(NamedTuple):
    """A volume, or one of its sections: affinities and foreground uint8 (4, Z, Y, X), and truth.

    `voxel_nm` is the voxel size z y x in nanometres.
    """

    predictions: np.ndarray
    truth: np.ndarray
    voxel_nm: tuple[float, float, float]

    def voxels(self, size: str) -> int:
        """Voxels of a size."""
        return size_in_voxels(size, self.voxel_nm, len(self.truth))


def parts(name: str, weights: Path, cache: Path) -> list[Part]:
    """The predictions of a choosing volume, read from the cache or computed."""
    network, header = load_checkpoint(weights)
    chosen = CHOOSING[name]
    slab = chosen.slab
    source: Source = slab.source(header, resample="" if chosen.native else "yx")
    depth = len(source.image)
    places = [slice(z, z + 1) for z in range(depth)] if slab.flat else [slice(None)]
    file = cache / f"{name.replace(' ', '_')}.npy"
    if not file.exists():
        three = list(header.named["affinity"][1])[:3]
        channels = three + list(header.named["foreground"][1])
        inference = Inference(network, header, channels, "cpu")
        images = [source.image[place] for place in places]
        np.save(file, np.concatenate([predicted(inference, image) for image in images], axis=1))
    predictions = np.load(file)
    sides = zip(resolution(slab), Box.parse(slab.bounds).shape, source.truth.shape, strict=True)
    z, y, x = (side * stored / resampled for side, stored, resampled in sides)
    return [Part(predictions[:, place], source.truth[place], (z, y, x)) for place in places]


def resolution(slab: Slab) -> tuple[float, float, float]:
    """The voxel size z y x in nanometres, as the file stores it."""
    spec = VolumeSpec(path=f"hdf5://{DATA}/{slab.file}?dataset=raw")
    stored = Volume.open(spec).resolution
    assert stored is not None
    return stored


def pipelines(volume: list[Part], soft: bool) -> list[InMemoryPipeline]:
    """The segmentation of each part up to where thresholds matter."""
    segmented = []
    for predictions, *_ in volume:
        affinity, foreground = predictions[:3], predictions[3]
        if soft:
            affinity = restricted(affinity, np.pad(foreground, [(1, 0)] * 3, mode="edge"))
        segmented.append(InMemoryPipeline(np.ascontiguousarray(affinity), low=0))
    return segmented


def rated(
    volume: list[Part], segments: Labels, mask_below: float = 0.0, fill_nm: float = 0.0
) -> Scores:
    """The scores of segmentations of the parts, masked and filled; the mean over them."""
    rows = []
    for (predictions, truth, voxel_nm), labels in zip(volume, segments, strict=True):
        left = filled(masked(labels, predictions[3], mask_below), fill_nm, voxel_nm)
        values = score(left, truth, 0)
        largest = np.unique(left[left > 0], return_counts=True)[1].max(initial=0) / left.size
        rows.append((values.vi, values.vi_split, values.vi_merge, values.arand, largest))
    return Scores(*(float(value) for value in np.mean(rows, axis=0)))


def segmented(volume: list[Part], pipelines: list[InMemoryPipeline], setting: Setting) -> Labels:
    """The segments of each part."""
    return [
        pipeline.segmentation(setting.threshold, part.voxels(setting.min_size))
        for part, pipeline in zip(volume, pipelines, strict=True)
    ]


def grid(volume: list[Part], thresholds: tuple[float, ...]) -> dict[Setting, Scores]:
    """The scores of every setting, without a mask."""
    scores = {}
    for soft in (False, True):
        volumes = pipelines(volume, soft)
        for threshold, size in itertools.product(thresholds, MIN_SIZES):
            setting = Setting(soft, threshold, size)
            scores[setting] = rated(volume, segmented(volume, volumes, setting))
    return scores


def text(scores: Scores) -> str:
    """The scores for a table."""
    return (
        f"{scores.vi:.3f} ({scores.vi_split:.3f} + {scores.vi_merge:.3f}), Rand F "
        f"{1 - scores.arand:.3f}, largest {scores.largest:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cache", type=Path, help="folder of the predictions")
    parser.add_argument("--weights", type=Path, help="a checkpoint instead of the bundled one")
    parser.add_argument("--thresholds", help="fewer thresholds, separated by commas")
    arguments = parser.parse_args()
    given = arguments.thresholds
    thresholds = tuple(float(each) for each in given.split(",")) if given else THRESHOLDS
    arguments.cache.mkdir(parents=True, exist_ok=True)
    weights = arguments.weights or Path(str(find_network("generalist", None, None).path))
    tables = {name: grid(parts(name, weights, arguments.cache), thresholds) for name in CHOOSING}
    cost = {
        setting: max(table[setting].vi - min(s.vi for s in table.values()) for table in
                     tables.values())
        for setting in next(iter(tables.values()))
    }  # fmt: skip
    for setting, bits in sorted(cost.items(), key=lambda item: item[1])[:20]:
        each = ", ".join(f"{table[setting].vi:.3f}" for table in tables.values())
        print(f"{bits:.3f} {tuple(setting)}: {each}")
    for soft in (False, True):
        best = min((s for s in cost if s.soft == soft), key=lambda setting: cost[setting])
        print(f"\nsoft {soft}: threshold {best.threshold}, min_size {best.min_size}")
        for name, table in tables.items():
            own = min(table, key=lambda setting: table[setting].vi)
            print(f"| {name} | {text(table[own])} at {tuple(own)} | {text(table[best])} |")
            volume = parts(name, weights, arguments.cache)
            volumes = pipelines(volume, soft)
            segments = segmented(volume, volumes, best)
            for mask_below, fill_nm in itertools.product(MASKS, FILLS):
                scores = rated(volume, segments, mask_below, fill_nm)
                print(f"|   mask {mask_below}, filled {fill_nm} nm | {text(scores)} |")


if __name__ == "__main__":
    main()
