"""Networks on sections that they were not trained on: the table of docs/lab/networks.md.

    python -m benchmarks.networks.methods ROW [--weights FILE] [--write]

The thresholds of a row are chosen on the first of its two parts, and its scores are computed on the
second; for a volume that the network never saw, on all of it. Bundled networks are found by name;
for other networks, trained for comparison, FILE is the checkpoint. --write stores the numbers in
benchmarks/networks/methods.json and regenerates the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import volflow
from benchmarks.data import DATA
from benchmarks.networks.quality import HERE, flood_filling
from volflow.checkpoints.find import find_network
from volflow.checkpoints.header import Header
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.engine.api import make_plan
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

BUNDLED = Path(volflow.__file__).parent / "weights"
RESULTS = Path(__file__).with_name("methods.json")
PAGE = HERE / "docs" / "lab" / "networks.md"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIN_SIZES = (500, 1000, 2000)
FLAT_MIN_SIZES = (0, 100)
MASK_THRESHOLDS = tuple(np.round(np.arange(0.1, 0.96, 0.05), 2))
FOREGROUND = 0.0  # every voxel gets a segment: voxels without truth do not count anyway


@dataclass(frozen=True)
class Slab:
    """A part of a dataset: its file, and its bounds in voxels."""

    file: str
    bounds: str
    labels: str = "neuron_ids"
    flat: bool = False
    zero: str = "unknown"

    @property
    def sections(self) -> str:
        """The sections, as text."""
        return self.bounds.partition(",")[0].replace(":", "-")

    @property
    def parts(self) -> list[Slab]:
        """Single sections where the labels are such, otherwise the slab itself."""
        if not self.flat:
            return [self]
        first, _, rest = self.bounds.partition(",")
        start, stop = map(int, first.split(":"))
        return [replace(self, bounds=f"{z}:{z + 1},{rest}") for z in range(start, stop)]

    def source(self, header: Header, resample: str = "yx") -> Source:
        """Image and labels, resampled along these axes to the network's voxels."""
        path = f"hdf5://{DATA}/{self.file}"
        spec = {
            "image": {"path": f"{path}?dataset=raw"},
            "labels": {"path": f"{path}?dataset={self.labels}"},
            "bounds": self.bounds,
            "zero": self.zero,
            "resample": resample,
        }
        requirements = SourceRequirements(header.voxel_size_nm)
        return open_source(SourceSpec.model_validate(spec), header.normalisation, requirements)

    def stored(self, dataset: str) -> np.ndarray:
        """A dataset of the file within the slab, without resampling."""
        spec = VolumeSpec(path=f"hdf5://{DATA}/{self.file}?dataset={dataset}")
        return Volume.open(spec).read(Box.parse(self.bounds))


FIB = "fib25_medulla/ts2_z000-165.h5"
GALA = "gala_fibsem/train_50x100x200.h5"
CORD = "vnc_sstem/stack1_s00-14.h5"
ISBI = "isbi2012/train_s00-23.h5"
CORTEX = "kasthuri_mito/wide_z000-087.h5"
AC3 = "ac3_ac4_cortex/ac3_12nm_z000-100.h5"


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
    """The parameters of a segmentation."""

    threshold: float
    min_size: int


def affinities(weights: Path, source: Source, restrict: bool) -> np.ndarray:
    """The three nearest affinities of a network, uint8; restricted to its foreground on request."""
    checkpoint, header = load_checkpoint(weights)
    three = list(header.named["affinity"][1])[:3]
    channels = three + (list(header.named["foreground"][1]) if restrict else [])
    values = predicted(Inference(checkpoint, header, channels, "cpu"), source.image)
    if not restrict:
        return values
    around = np.pad(values[3], [(1, 0)] * 3, mode="edge")
    return restricted(values[:3], around, FOREGROUND)


def score_settings(affinity: np.ndarray, source: Source, flat: bool) -> dict[Setting, Score]:
    """The scores of all settings; for flat labels the mean over sections."""
    parts = [slice(z, z + 1) for z in range(len(affinity[0]))] if flat else [slice(None)]
    lifted = affinity
    if flat:
        lifted = affinity.copy()
        lifted[0] = 0
    pipelines = [InMemoryPipeline(np.ascontiguousarray(lifted[:, part])) for part in parts]
    scores = {}
    for size in FLAT_MIN_SIZES if flat else MIN_SIZES:
        for at in THRESHOLDS:
            each = [
                score(pipeline.segmentation(at, size), source.truth[part], at)
                for pipeline, part in zip(pipelines, parts, strict=True)
            ]
            mean = np.mean([(s.vi_split, s.vi_merge, s.vi, s.arand) for s in each], axis=0)
            scores[Setting(at, size)] = Score(at, *(float(value) for value in mean))
    return scores


def neurons(
    weights: Path, choose: Slab, report: Slab, restrict: bool = False
) -> tuple[Setting, Score, Score]:
    """The setting that is best on one slab, its score there, and its score on another."""
    header = load_checkpoint(weights)[1]
    first, second = choose.source(header), report.source(header)
    chosen = score_settings(affinities(weights, first, restrict), first, choose.flat)
    best = min(chosen, key=lambda setting: chosen[setting].vi)
    if report.flat != choose.flat:
        raise ValueError("expected two slabs of flat labels, or two of volumes")
    reported = score_settings(affinities(weights, second, restrict), second, report.flat)
    return best, chosen[best], reported[best]


def vi_row(weights: Path, choose: Slab, report: Slab, restrict: bool = False) -> dict[str, Any]:
    setting, chosen, reported = neurons(weights, choose, report, restrict)
    row: dict[str, Any] = {**asdict(reported), **asdict(setting), "sections": report.sections}
    row["choosing"] = chosen.vi
    if report.file == FIB:
        row["of_flood_filling"] = reported.vi / flood_filling(report.sections.replace("-", ":")).vi
    return row


# --- masks ---------------------------------------------------------------------------------------


def masked(weights: Path, head: str, slab: Slab, fine: bool = False) -> np.ndarray:
    """The first channel of a head, 0 to 255, in the voxels of the file.

    With `fine`, the mean of four flips in y and x, interpolated linearly; otherwise each voxel has
    the value of the network's voxel that it is in.
    """
    checkpoint, header = load_checkpoint(weights)
    source = slab.source(header)
    network = Inference(checkpoint, header, list(header.named[head][1])[:1], "cpu")
    shape = slab.stored("raw").shape
    if not fine:
        return resampled_labels(predicted(network, source.image)[0], shape)
    flips = [(), (1,), (2,), (1, 2)]
    turned = [np.flip(predicted(network, np.flip(source.image, axes))[0], axes) for axes in flips]
    mean = np.mean(turned, axis=0, dtype=np.float32)
    zoom = [new / old for new, old in zip(shape, mean.shape, strict=True)]
    values: np.ndarray = ndimage.zoom(mean, zoom, order=1, grid_mode=True, mode="nearest")
    return values


def f1(detected: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """F1, precision and recall of voxels."""
    shared, detections, truths = (int(mask.sum()) for mask in (detected & truth, detected, truth))
    return {
        "f1": 2 * shared / max(1, detections + truths),
        "precision": shared / max(1, detections),
        "recall": shared / max(1, truths),
    }


def mask_row(
    weights: Path,
    head: str,
    choose: Slab,
    report: Slab,
    dataset: str,
    dark: bool = False,
    fine: bool = False,
) -> dict[str, Any]:
    """F1 of voxels; with `dark` the mask is the complement of the head; `fine`: see `masked`."""

    def at(values: np.ndarray, threshold: float) -> np.ndarray:
        return values < 255 * threshold if dark else values >= 255 * threshold

    first, truth = masked(weights, head, choose, fine), choose.stored(dataset) != 0
    best = max(MASK_THRESHOLDS, key=lambda t: f1(at(first, t), truth)["f1"])
    second = at(masked(weights, head, report, fine), best)
    scores = f1(second, report.stored(dataset) != 0)
    choosing = f1(at(first, best), truth)["f1"]
    return {
        **scores, "threshold": float(best), "sections": report.sections, "choosing": choosing
    }  # fmt: skip


def flat_objects(mask: np.ndarray, min_size: int) -> np.ndarray:
    """Components (8 neighbours) of each section, of at least `min_size` pixels."""
    within = np.zeros((3, 3, 3), int)
    within[1] = 1
    labels, count = ndimage.label(mask, within)
    small = np.bincount(labels.ravel(), minlength=count + 1) < min_size
    large: np.ndarray = np.where(small[labels], 0, labels)
    return large


def overlapping(detected: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """F1 of objects, matched one to one if they share a pixel, as many as possible."""
    both = (detected > 0) & (truth > 0)
    pairs, shared = np.unique(
        np.stack([truth[both], detected[both]]).astype(np.int64), axis=1, return_counts=True
    )
    hits = len(best_pairs(pairs[0], pairs[1], 1 + shared / (2 * max(1, shared.sum()))))
    detections, truths = (len(np.unique(labels[labels > 0])) for labels in (detected, truth))
    return {
        "f1": 2 * hits / max(1, detections + truths),
        "precision": hits / max(1, detections),
        "recall": hits / max(1, truths),
        "objects": truths,
    }


def clefts_row(weights: Path, choose: Slab, report: Slab, min_size: int = 100) -> dict[str, Any]:
    """F1 of synapses as objects in single sections."""

    def rated(values: np.ndarray, slab: Slab, at: float) -> dict[str, float]:
        truth = flat_objects(slab.stored("synapses") != 0, min_size)
        return overlapping(flat_objects(values >= 255 * at, min_size), truth)

    first = masked(weights, "synapse", choose)
    best = max(MASK_THRESHOLDS, key=lambda at: rated(first, choose, at)["f1"])
    scores = rated(masked(weights, "synapse", report), report, best)
    return {**scores, "threshold": float(best), "sections": report.sections}


def at_defaults(pipeline: str, output: str, weights: Path, report: Slab) -> np.ndarray:
    """Labels of a slab by a bundled pipeline with its defaults, in the voxels of the file.

    Where the pipeline reads the image at coarser voxels, each has the label of the one it is in.
    """
    with tempfile.TemporaryDirectory() as run:
        overrides = [f"volumes.em.path=hdf5://{DATA}/{report.file}?dataset=raw", f"run={run}/run"]
        if weights.parent != BUNDLED:  # otherwise the one that the pipeline names
            overrides.append(f"steps.predict.model={weights}")
        planned = make_plan(pipeline, overrides=overrides)
        factors = next((each.factors for each in planned.downsampled), (1, 1, 1))
        stored = Box.parse(report.bounds)
        bounds = stored.zoom_out(factors)
        result = volflow.run(pipeline, overrides=overrides, bounds=str(bounds))
        assert result.ok, result.failures
        spec = VolumeSpec(path=f"precomputed://{run}/run/{output}")
        labels = Volume.open(spec, own=True).read(bounds)
    for axis, factor in enumerate(factors):
        labels = labels.repeat(factor, axis)
    return labels[stored.within(bounds.zoom_in(factors))]


def defaults_row(pipeline: str, weights: Path, report: Slab) -> dict[str, Any]:
    """VI and adapted Rand error of a bundled pipeline with its defaults.

    Sections with labels of their own are runs of their own, and scores are their means.
    """
    rows = []
    for part in report.parts:
        segments = at_defaults(pipeline, "segmentation", weights, part)
        rated = asdict(score(segments, part.stored(part.labels), 0))
        largest = np.unique(segments[segments > 0], return_counts=True)[1].max(initial=0)
        rows.append({**rated, "largest": int(largest) / segments.size})
    keys = ("vi_split", "vi_merge", "vi", "arand")
    row: dict[str, Any] = {key: float(np.mean([each[key] for each in rows])) for key in keys}
    row["largest"] = max(each["largest"] for each in rows)
    if report.file == FIB:
        row["of_flood_filling"] = row["vi"] / flood_filling(report.sections.replace("-", ":")).vi
    return {**row, "sections": report.sections}


def recall_row(weights: Path, report: Slab) -> dict[str, Any]:
    """Recall of labelled mitochondria at IoU 0.5 by the pipeline `mito` with its defaults."""
    detected = at_defaults("mito", "mitochondria_ids", weights, report)
    truth = report.stored("mito_ids")
    scores = score_objects(truth, detected, thresholds=(0.5,), min_truth=128)
    return {
        "recall": scores["recall"][0], "objects": scores["truths"], "sections": report.sections
    }  # fmt: skip


# --- the table -----------------------------------------------------------------------------------

Row = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A row: its title, the function that computes it, and the network if that is bundled."""

    title: str
    row: Row
    network: str = ""


def _vi(choose: Slab, report: Slab, restrict: bool = False) -> Row:
    return lambda weights: vi_row(weights, choose, report, restrict)


def _mask(
    head: str, choose: Slab, report: Slab, dataset: str, dark: bool = False, fine: bool = False
) -> Row:
    return lambda weights: mask_row(weights, head, choose, report, dataset, dark, fine)


FIB_PAIR, FIB_UNSEEN = (fib("120:135"), fib("135:165")), (gala("40:50"), fib("135:165"))
CORD_PAIR, ISBI_PAIR = (cord("9:11"), cord("11:15")), (isbi("16:18"), isbi("18:24"))
GALA_PAIR = (gala("35:40"), gala("40:50"))

ENTRIES = {
    "affinity": Entry("FIB-25, affinities alone, 700 steps", _vi(*FIB_PAIR)),
    "lsd": Entry("FIB-25, affinities and descriptors, 700 steps", _vi(*FIB_PAIR)),
    "shipped": Entry("FIB-25, affinities and descriptors, as bundled", _vi(*FIB_PAIR), "fib25-lsd"),
    "gala_unseen": Entry(
        "gala, by a network of FIB-25 and synthetic volume", _vi(fib("120:135"), gala("0:50"))
    ),
    "fib25_unseen": Entry("FIB-25, by a network of gala and synthetic volume", _vi(*FIB_UNSEEN)),
    "membranes_isbi": Entry(
        "membranes, ISBI 2012",
        _mask("foreground", *ISBI_PAIR, "membranes", True),
        "generalist-sections",
    ),
    "membranes_cord": Entry(
        "membranes, nerve cord",
        _mask("foreground", *CORD_PAIR, "membranes", True),
        "generalist-sections",
    ),
    "mitochondria_cord": Entry(
        "mitochondria, nerve cord, voxels",
        _mask("mitochondria", *CORD_PAIR, "mitochondria"),
        "mitochondria",
    ),
    "mitochondria_cord_fine": Entry(
        "the same, the mean of four flips, interpolated",
        _mask("mitochondria", *CORD_PAIR, "mitochondria", fine=True),
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
        f"generalist-sections, {_name}", _vi(*_pair, restrict=True), "generalist-sections"
    )
    ENTRIES[f"unrestricted_{_name}"] = Entry(
        f"generalist-sections, {_name}, without the foreground", _vi(*_pair), "generalist-sections"
    )
for _pipeline, _network in {"cortex": "cortex", "segneuron": "generalist"}.items():
    ENTRIES[f"{_pipeline}_ac3"] = Entry(
        f"mouse cortex, AC3, pipeline `{_pipeline}` at its defaults",
        partial(defaults_row, _pipeline, report=Slab(AC3, "70:100,0:512,0:512")),
        _network,
    )
_CORNER = replace(cord("11:15"), bounds="11:15,0:512,0:512")  # a section takes five minutes
for _name, _report in {
    "fib25": FIB_PAIR[1], "gala": GALA_PAIR[1], "cord": _CORNER, "isbi": ISBI_PAIR[1]
}.items():  # fmt: skip
    ENTRIES[f"segneuron_{_name}"] = Entry(
        f"{_name}, pipeline `segneuron` at its defaults",
        partial(defaults_row, "segneuron", report=_report),
        "generalist",
    )
ENTRIES["segneuron_isbi_choosing"] = Entry(
    "isbi, sections that choose, pipeline `segneuron` at its defaults",
    partial(defaults_row, "segneuron", report=ISBI_PAIR[0]),
    "generalist",
)
ABLATIONS = {
    "small_mixed": "800 steps: mixing",
    "small_pretrained": "800 steps: mixing, pretrained encoder",
    "small_plain": "800 steps: neither",
}
for _ablation in ABLATIONS:
    for _name, _pair in {
        "fib25": FIB_PAIR, "gala": GALA_PAIR, "cord": CORD_PAIR, "isbi": ISBI_PAIR
    }.items():  # fmt: skip
        ENTRIES[f"{_ablation}_{_name}"] = Entry(
            f"{ABLATIONS[_ablation]}, {_name}", _vi(*_pair, restrict=True)
        )


def score_text(row: dict[str, Any]) -> str:
    """The scores of a row, for the table."""
    if "vi" in row:
        text = f"VI {row['vi']:.3f} ({row['vi_split']:.3f} + {row['vi_merge']:.3f})"
        if "of_flood_filling" in row:
            text += f", {row['of_flood_filling']:.2f} of flood filling's"
        text += f", ARAND {row['arand']:.3f}"
        return text + (f", largest segment {row['largest']:.0%}" if "largest" in row else "")
    if "f1" in row:
        of = f", of {row['objects']} objects" if "objects" in row else ""
        return (
            f"F1 {row['f1']:.3f} (precision {row['precision']:.3f}, recall {row['recall']:.3f}){of}"
        )
    return f"recall {row['recall']:.3f} of {row['objects']} objects"


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The rows that were measured, in order."""
    lines = [
        "| | sections | score | `python -m benchmarks.networks.methods` |",
        "|---|---|---|---|",
    ]
    for name, entry in ENTRIES.items():
        if name in rows:
            row = rows[name]
            lines.append(f"| {entry.title} | {row['sections']} | {score_text(row)} | `{name}` |")
    return lines


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Store the numbers, and write the table between its marks on the page."""
    RESULTS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    before, begin, rest = PAGE.read_text().partition("<!-- table: begin -->")
    _, end, after = rest.partition("<!-- table: end -->")
    PAGE.write_text("\n".join([before + begin, *table(rows), end + after]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("row", nargs="+", choices=list(ENTRIES))
    parser.add_argument("--weights", type=Path, help="a checkpoint instead of the bundled one")
    parser.add_argument("--write", action="store_true", help="store the numbers")
    arguments = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.row:
        entry = ENTRIES[name]
        if arguments.weights is None and not entry.network:
            parser.error(f"{name}: its network is not bundled; give --weights")
        weights = arguments.weights or Path(str(find_network(entry.network, None, None).path))
        row = entry.row(weights)
        print(name, json.dumps(row))
        rows[name] = row
        if arguments.write:
            write(rows)


if __name__ == "__main__":
    main()
