"""How good the shipped networks are: thresholds chosen on one part, the score taken on another.

    python -m benchmarks.quality [--write] [--network fib25-affinity|synth-affinity]

FIB-25: trained on sections 0 to 120, chosen on 120 to 135, reported on 135 to 165, each part
segmented alone (image, intensities and all). Synthetic: chosen on the volume of validation,
reported on another seed. --write puts the tables into docs/training.md. The segmentation is the
exact road in memory, which the tests hold equal to the pipeline.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volflow.core.geometry import Box
from volflow.core.header import Header
from volflow.core.network import WEIGHTS
from volflow.core.pipeline import VolumeSpec
from volflow.io.volume import Volume
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.train.config import SourceSpec
from volflow.train.samples import Source
from volflow.train.sources import opened
from volflow.train.validation import Road, Score, predicted, score

HERE = Path(__file__).parents[1]
DATA = Path(os.environ.get("VOLFLOW_DATA", HERE.parent / "shared" / "data"))
SLAB = f"hdf5://{DATA}/fib25_medulla/ts2_z000-165.h5"
PAGE = HERE / "docs" / "training.md"

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
MIN_SIZES = (0, 500, 1000, 2000)
FLIPS = ("", "zyx")


@dataclass(frozen=True)
class Trial:
    """One way to segment a volume, and how it went."""

    flips: str
    min_size: int
    score: Score


def fib25(sections: str) -> SourceSpec:
    image, labels = (VolumeSpec(path=f"{SLAB}?dataset={n}") for n in ("raw", "neuron_ids"))
    return SourceSpec(image=image, labels=labels, bounds=f"{sections},0:250,0:250")


def synthetic(bounds: str, seed: int) -> SourceSpec:
    return SourceSpec.model_validate({"synthetic": {"bounds": bounds, "seed": seed}})


PARTS = {
    "fib25-affinity": {
        "sections 120-135": fib25("120:135"),
        "sections 135-165": fib25("135:165"),
    },
    "synth-affinity": {
        "seed 103, 96 x 128 x 128 voxels": synthetic("0:96,0:128,0:128", 103),
        "seed 7, 128 x 160 x 160 voxels": synthetic("0:128,0:160,0:160", 7),
    },
}


def sweep(network: Inference, part: Source) -> Iterator[Trial]:
    for flips in FLIPS:
        road = Road(predicted(network, part.image, flips))
        for min_size in MIN_SIZES:
            for threshold in THRESHOLDS:
                segmentation = road.segmentation(threshold, min_size)
                yield Trial(flips, min_size, score(segmentation, part.truth, threshold))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the least VI; of several that are equal, the one in the middle of them."""
    least = min(trial.score.vi for trial in trials)
    equal = [trial for trial in trials if trial.score.vi <= least + 1e-9]
    return equal[len(equal) // 2]


def same(trials: Sequence[Trial], wanted: Trial) -> Trial:
    """What the settings of another part's trial gave here."""
    key = (wanted.flips, wanted.min_size, wanted.score.threshold)
    return next(t for t in trials if (t.flips, t.min_size, t.score.threshold) == key)


def table(trials: Sequence[Trial], chosen: Trial) -> list[str]:
    """VI of all trials: a row per flips and min_size, a column per threshold."""
    lines = ["| flips | `min_size` | " + " | ".join(f"{t:g}" for t in THRESHOLDS) + " |"]
    lines.append("|---|---|" + "---|" * len(THRESHOLDS))
    for flips in FLIPS:
        for min_size in MIN_SIZES:
            row = [t for t in trials if (t.flips, t.min_size) == (flips, min_size)]
            cells = [f"**{t.score.vi:.3f}**" if t == chosen else f"{t.score.vi:.3f}" for t in row]
            lines.append(f"| {flips or 'none'} | {min_size} | " + " | ".join(cells) + " |")
    return lines


def flood_filling(sections: str, truth: np.ndarray) -> Score:
    """The published flood-filling result on the same voxels."""
    volume = Volume.open(VolumeSpec(path=f"{SLAB}?dataset=ffn"))
    return score(volume.read(Box.parse(f"{sections},0:250,0:250")), truth, 0)


def shown(name: str, found: Score) -> str:
    return (
        f"| {name} | {found.vi_split:.3f} | {found.vi_merge:.3f} | {found.vi:.3f} | "
        f"{found.arand:.3f} |"
    )


def report(name: str) -> list[str]:
    """The section of the page about one network."""
    network, header = loaded(name)
    parts = {title: opened(spec, header.normalisation) for title, spec in PARTS[name].items()}
    trials = {title: list(sweep(network, part)) for title, part in parts.items()}
    first, second = parts
    summary = ["| | VI split | VI merge | VI | ARAND |", "|---|---|---|---|---|"]
    tables = []
    for flips in FLIPS:
        chosen = best([t for t in trials[first] if t.flips == flips])
        how = (
            f"{'averaged over flips' if flips else 'one look'}, threshold "
            f"{chosen.score.threshold:g}, `min_size` {chosen.min_size}"
        )
        summary.append(shown(f"{second}: {how}", same(trials[second], chosen).score))
    chosen = best(trials[first])
    if name.startswith("fib25"):
        theirs = flood_filling("135:165", parts[second].truth)
        summary.append(shown(f"{second}: flood filling (published)", theirs))
        ratio = same(trials[second], chosen).score.vi / theirs.vi
        summary.append(f"\nVI is {ratio:.2f} of flood filling's on the same voxels.")
    for title in parts:
        bold = chosen if title == first else same(trials[second], chosen)
        tables += ["", f"VI on {title}; bold: the setting chosen on {first}.", ""]
        tables += table(trials[title], bold)
    return [f"### {name}", "", *summary, *tables, ""]


def loaded(name: str) -> tuple[Inference, Header]:
    path = WEIGHTS / f"{name}.safetensors"
    network, header = load_checkpoint(path)
    return Inference(network, header, (0, 1, 2), "cpu"), header


def write(name: str, lines: list[str]) -> None:
    """Put a section between its marks on the page."""
    before, begin, rest = PAGE.read_text().partition(f"<!-- {name}: begin -->")
    _, end, after = rest.partition(f"<!-- {name}: end -->")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/training.md")
    parser.add_argument("--network", choices=list(PARTS), action="append")
    arguments = parser.parse_args()
    for name in arguments.network or list(PARTS):
        lines = report(name)
        print("\n".join(lines))
        if arguments.write:
            write(name, lines)


if __name__ == "__main__":
    main()
