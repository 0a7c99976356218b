"""Networks on sections that none of them was trained on: the table of docs/lab/networks.md.

    python -m benchmarks.methods ROW [--weights FILE] [--write]

A row's thresholds are chosen on the first of its two parts and its scores taken on the second, or,
for a volume that the network never saw, on all of it. Networks that are shipped are found by name;
of the others, trained to be compared, FILE is the checkpoint. --write keeps the numbers in
benchmarks/methods.json and makes the table anew.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import volflow
from benchmarks.quality import DATA, HERE, flood_filling
from volflow.checkpoints.find import find_network
from volflow.checkpoints.header import Header
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, zyx
from volflow.io.volume import Volume
from volflow.metrics.detections.matching import best_pairs
from volflow.metrics.detections.objects import score_objects
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.restrict import restricted
from volflow.train.config.training import SourceSpec
from volflow.train.data.resample import resampled_labels
from volflow.train.data.samples import Source
from volflow.train.data.sources import SourceRequirements, open_source
from volflow.train.validation.evaluate import InMemoryPipeline, Score, predicted, score

KEPT = HERE / "benchmarks" / "methods.json"
PAGE = HERE / "docs" / "lab" / "networks.md"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIN_SIZES = (500, 1000, 2000)
FLAT_MIN_SIZES = (0, 100)
MASK_THRESHOLDS = tuple(np.round(np.arange(0.1, 0.96, 0.05), 2))
LEAST = 0.0  # every voxel gets a segment: what truth leaves out is not counted anyway


@dataclass(frozen=True)
class Slab:
    """A part of a dataset, and in which voxels it lies in the file."""

    file: str
    bounds: str
    labels: str = "neuron_ids"
    flat: bool = False
    zero: str = "unknown"

    @property
    def sections(self) -> str:
        """The sections, as a reader is told them."""
        return self.bounds.partition(",")[0].replace(":", "-")

    def source(self, header: Header) -> Source:
        """Image and labels, brought to the network's voxels within sections."""
        path = f"hdf5://{DATA}/{self.file}"
        spec = {
            "image": {"path": f"{path}?dataset=raw"},
            "labels": {"path": f"{path}?dataset={self.labels}"},
            "bounds": self.bounds,
            "zero": self.zero,
            "resample": "yx",
        }
        wanted = SourceRequirements(header.voxel_size_nm)
        return open_source(SourceSpec.model_validate(spec), header.normalisation, wanted)

    def stored(self, dataset: str) -> np.ndarray:
        """A dataset of the file over the slab, as it is."""
        spec = VolumeSpec(path=f"hdf5://{DATA}/{self.file}?dataset={dataset}")
        return Volume.open(spec).read(Box.parse(self.bounds))


FIB = "fib25_medulla/ts2_z000-165.h5"
GALA = "gala_fibsem/train_50x100x200.h5"
CORD = "vnc_sstem/stack1_s00-14.h5"
ISBI = "isbi2012/train_s00-23.h5"
CORTEX = "kasthuri_mito/wide_z000-087.h5"


def fib(sections: str) -> Slab:
    return Slab(FIB, f"{sections},0:250,0:250")


def gala(sections: str) -> Slab:
    return Slab(GALA, f"{sections},0:100,0:200")


def cord(sections: str) -> Slab:
    return Slab(CORD, f"{sections},0:1024,0:1024", "instances2d_derived", True)


def isbi(sections: str) -> Slab:
    return Slab(ISBI, f"{sections},0:512,0:512", "instances2d_derived", True)


# --- neurons -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """How affinities become segments."""

    threshold: float
    min_size: int


def affinities(weights: Path, source: Source, restrict: bool) -> np.ndarray:
    """The three nearest affinities of a network, uint8; held against its foreground if wanted."""
    checkpoint, header = load_checkpoint(weights)
    three = list(header.named["affinity"][1])[:3]
    channels = three + (list(header.named["foreground"][1]) if restrict else [])
    made = predicted(Inference(checkpoint, header, channels, "cpu"), source.image)
    if not restrict:
        return made
    around = np.pad(made[3], [(1, 0)] * 3, mode="edge")
    return restricted(made[:3], around, LEAST)


def tried(affinity: np.ndarray, source: Source, flat: bool) -> dict[Setting, Score]:
    """The scores of all settings; of flat labels the mean over sections."""
    parts = [slice(z, z + 1) for z in range(len(affinity[0]))] if flat else [slice(None)]
    lifted = affinity
    if flat:
        lifted = affinity.copy()
        lifted[0] = 0
    roads = [InMemoryPipeline(np.ascontiguousarray(lifted[:, part])) for part in parts]
    found = {}
    for size in FLAT_MIN_SIZES if flat else MIN_SIZES:
        for at in THRESHOLDS:
            each = [
                score(road.segmentation(at, size), source.truth[part], at)
                for road, part in zip(roads, parts, strict=True)
            ]
            mean = np.mean([(s.vi_split, s.vi_merge, s.vi, s.arand) for s in each], axis=0)
            found[Setting(at, size)] = Score(at, *(float(value) for value in mean))
    return found


def neurons(
    weights: Path, choose: Slab, report: Slab, restrict: bool = False
) -> tuple[Setting, Score, Score]:
    """The setting that is best on one slab, its score there, and its score on another."""
    header = load_checkpoint(weights)[1]
    first, second = choose.source(header), report.source(header)
    chosen = tried(affinities(weights, first, restrict), first, choose.flat)
    best = min(chosen, key=lambda setting: chosen[setting].vi)
    if report.flat != choose.flat:
        raise ValueError("settings of single sections and of volumes are not the same thing")
    reported = tried(affinities(weights, second, restrict), second, report.flat)
    return best, chosen[best], reported[best]


def vi_row(weights: Path, choose: Slab, report: Slab, restrict: bool = False) -> dict[str, Any]:
    setting, chosen, found = neurons(weights, choose, report, restrict)
    row: dict[str, Any] = {**asdict(found), **asdict(setting), "sections": report.sections}
    row["choosing"] = chosen.vi
    if report.file == FIB:
        row["of_flood_filling"] = found.vi / flood_filling(report.sections.replace("-", ":")).vi
    return row


# --- masks ---------------------------------------------------------------------------------------


def masked(weights: Path, head: str, slab: Slab) -> np.ndarray:
    """The first channel of a head, uint8, in the voxels that the file has."""
    checkpoint, header = load_checkpoint(weights)
    source = slab.source(header)
    network = Inference(checkpoint, header, list(header.named[head][1])[:1], "cpu")
    made = predicted(network, source.image)[0]
    return resampled_labels(made, slab.stored("raw").shape)


def f1(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Precision, recall and their harmonic mean over voxels."""
    shared, founds, truths = (int(mask.sum()) for mask in (found & truth, found, truth))
    return {
        "f1": 2 * shared / max(1, founds + truths),
        "precision": shared / max(1, founds),
        "recall": shared / max(1, truths),
    }


def mask_row(
    weights: Path, head: str, choose: Slab, report: Slab, dataset: str, dark: bool = False
) -> dict[str, Any]:
    """F1 of voxels; `dark`: the mask is where the head is not."""

    def at(made: np.ndarray, threshold: float) -> np.ndarray:
        return made < 255 * threshold if dark else made >= 255 * threshold

    first, truth = masked(weights, head, choose), choose.stored(dataset) != 0
    best = max(MASK_THRESHOLDS, key=lambda t: f1(at(first, t), truth)["f1"])
    second = at(masked(weights, head, report), best)
    found = f1(second, report.stored(dataset) != 0)
    choosing = f1(at(first, best), truth)["f1"]
    return {
        **found, "threshold": float(best), "sections": report.sections, "choosing": choosing
    }  # fmt: skip


def flat_objects(mask: np.ndarray, least: int) -> np.ndarray:
    """Components (8 neighbours) of each section, of at least so many pixels."""
    within = np.zeros((3, 3, 3), int)
    within[1] = 1
    labels, count = ndimage.label(mask, within)
    small = np.bincount(labels.ravel(), minlength=count + 1) < least
    kept: np.ndarray = np.where(small[labels], 0, labels)
    return kept


def overlapping(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Objects matched one for one where they share a pixel, as many as can be; F1 of them."""
    both = (found > 0) & (truth > 0)
    pairs, shared = np.unique(
        np.stack([truth[both], found[both]]).astype(np.int64), axis=1, return_counts=True
    )
    hits = len(best_pairs(pairs[0], pairs[1], 1 + shared / (2 * max(1, shared.sum()))))
    founds, truths = (len(np.unique(labels[labels > 0])) for labels in (found, truth))
    return {
        "f1": 2 * hits / max(1, founds + truths),
        "precision": hits / max(1, founds),
        "recall": hits / max(1, truths),
        "objects": truths,
    }


def clefts_row(weights: Path, choose: Slab, report: Slab, least: int = 100) -> dict[str, Any]:
    """F1 of synapses as objects of single sections."""

    def rated(made: np.ndarray, slab: Slab, at: float) -> dict[str, float]:
        truth = flat_objects(slab.stored("synapses") != 0, least)
        return overlapping(flat_objects(made >= 255 * at, least), truth)

    first = masked(weights, "synapse", choose)
    best = max(MASK_THRESHOLDS, key=lambda at: rated(first, choose, at)["f1"])
    found = rated(masked(weights, "synapse", report), report, best)
    return {**found, "threshold": float(best), "sections": report.sections}


def recall_row(weights: Path, report: Slab) -> dict[str, Any]:
    """Labelled mitochondria found at IoU 0.5 by the pipeline `mito` as it is."""
    z, y, x = (part.split(":") for part in report.bounds.split(","))
    box = Box(*(zyx([int(axis[end]) for axis in (z, y, x)]) for end in (0, 1)))
    with tempfile.TemporaryDirectory() as run:
        overrides = [
            f"volumes.em.path=hdf5://{DATA}/{report.file}?dataset=raw",
            f"steps.predict.model={weights}",
            f"run={run}/run",
        ]
        result = volflow.run("mito", overrides=overrides, bounds=report.bounds)
        assert result.ok, result.failures
        spec = VolumeSpec(path=f"precomputed://{run}/run/mitochondria_ids")
        found = Volume.open(spec).read(box)
    truth = report.stored("mito_ids")
    told = score_objects(truth, found, thresholds=(0.5,), min_truth=128)
    return {"recall": told["recall"][0], "objects": told["truths"], "sections": report.sections}


# --- the table -----------------------------------------------------------------------------------

Row = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A row: what is asked of which network, if that is shipped, and how it was trained if not."""

    what: str
    row: Row
    network: str = ""


def _vi(choose: Slab, report: Slab, restrict: bool = False) -> Row:
    return lambda weights: vi_row(weights, choose, report, restrict)


def _mask(head: str, choose: Slab, report: Slab, dataset: str, dark: bool = False) -> Row:
    return lambda weights: mask_row(weights, head, choose, report, dataset, dark)


FIB_PAIR, FIB_UNSEEN = (fib("120:135"), fib("135:165")), (gala("40:50"), fib("135:165"))
CORD_PAIR, ISBI_PAIR = (cord("9:11"), cord("11:15")), (isbi("16:18"), isbi("18:24"))
GALA_PAIR = (gala("35:40"), gala("40:50"))

ENTRIES = {
    "affinity": Entry("FIB-25, affinities alone, 700 steps", _vi(*FIB_PAIR)),
    "lsd": Entry("FIB-25, affinities and descriptors, 700 steps", _vi(*FIB_PAIR)),
    "shipped": Entry("FIB-25, affinities and descriptors, as shipped", _vi(*FIB_PAIR), "fib25-lsd"),
    "gala_unseen": Entry(
        "gala, by a network of FIB-25 and synthetic volume", _vi(fib("120:135"), gala("0:50"))
    ),
    "fib25_unseen": Entry("FIB-25, by a network of gala and synthetic volume", _vi(*FIB_UNSEEN)),
    "membranes_isbi": Entry(
        "membranes, ISBI 2012", _mask("foreground", *ISBI_PAIR, "membranes", True), "generalist"
    ),
    "membranes_cord": Entry(
        "membranes, nerve cord", _mask("foreground", *CORD_PAIR, "membranes", True), "generalist"
    ),
    "mitochondria_cord": Entry(
        "mitochondria, nerve cord, voxels",
        _mask("mitochondria", *CORD_PAIR, "mitochondria"),
        "mitochondria",
    ),
    "mitochondria_cortex": Entry(
        "mitochondria, mouse cortex, objects at IoU 0.5",
        lambda weights: recall_row(weights, Slab(CORTEX, "66:87,0:479,0:722", "mito_ids")),
        "mitochondria",
    ),
    "synapses_cord": Entry(
        "synapses, nerve cord, objects of a section",
        lambda weights: clefts_row(weights, *CORD_PAIR),
        "synapse",
    ),
}
for _name, _pair in {
    "fib25": FIB_PAIR, "gala": GALA_PAIR, "cord": CORD_PAIR, "isbi": ISBI_PAIR
}.items():  # fmt: skip
    ENTRIES[f"generalist_{_name}"] = Entry(
        f"generalist, {_name}", _vi(*_pair, restrict=True), "generalist"
    )
    ENTRIES[f"unrestricted_{_name}"] = Entry(
        f"generalist, {_name}, without the foreground", _vi(*_pair), "generalist"
    )
TOLD = {
    "small_mixed": "800 steps: mixing",
    "small_pretrained": "800 steps: mixing, pretrained encoder",
    "small_plain": "800 steps: neither",
}
for _ablation in TOLD:
    for _name, _pair in {
        "fib25": FIB_PAIR, "gala": GALA_PAIR, "cord": CORD_PAIR, "isbi": ISBI_PAIR
    }.items():  # fmt: skip
        ENTRIES[f"{_ablation}_{_name}"] = Entry(
            f"{TOLD[_ablation]}, {_name}", _vi(*_pair, restrict=True)
        )


def told(found: dict[str, Any]) -> str:
    """The scores of a row, for the table."""
    if "vi" in found:
        text = f"VI {found['vi']:.3f} ({found['vi_split']:.3f} + {found['vi_merge']:.3f})"
        if "of_flood_filling" in found:
            text += f", {found['of_flood_filling']:.2f} of flood filling's"
        return f"{text}, ARAND {found['arand']:.3f}"
    if "f1" in found:
        of = f", of {found['objects']} objects" if "objects" in found else ""
        return (
            f"F1 {found['f1']:.3f} (precision {found['precision']:.3f}, recall "
            f"{found['recall']:.3f}){of}"
        )
    return f"recall {found['recall']:.3f} of {found['objects']} objects"


def table(kept: dict[str, dict[str, Any]]) -> list[str]:
    """The rows that were measured, in order."""
    lines = ["| | sections | score | `python -m benchmarks.methods` |", "|---|---|---|---|"]
    for name, entry in ENTRIES.items():
        if name in kept:
            found = kept[name]
            lines.append(f"| {entry.what} | {found['sections']} | {told(found)} | `{name}` |")
    return lines


def write(kept: dict[str, dict[str, Any]]) -> None:
    """Keep the numbers, and put the table between its marks on the page."""
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    before, begin, rest = PAGE.read_text().partition("<!-- table: begin -->")
    _, end, after = rest.partition("<!-- table: end -->")
    PAGE.write_text("\n".join([before + begin, *table(kept), end + after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("row", nargs="+", choices=list(ENTRIES))
    parser.add_argument("--weights", type=Path, help="a checkpoint in place of the shipped one")
    parser.add_argument("--write", action="store_true", help="keep the numbers")
    given = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in given.row:
        entry = ENTRIES[name]
        if given.weights is None and not entry.network:
            parser.error(f"{name}: its network is not shipped; give --weights")
        weights = given.weights or Path(str(find_network(entry.network, None, None).path))
        found = entry.row(weights)
        print(name, json.dumps(found))
        kept[name] = found
        if given.write:
            write(kept)


if __name__ == "__main__":
    main()
