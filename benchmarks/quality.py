"""How good the shipped networks are: thresholds chosen on one part, the score taken on another.

    python -m benchmarks.quality [--write] [--network NAME ...] [--weights FILE]

FIB-25: trained on sections 0 to 120, chosen on 120 to 135, reported on 135 to 165, each part
segmented alone; the network is shown the part alone (image, intensities and all), or the image
around it too, as it is when the part is cut from a prediction of the whole. Synthetic: chosen on
the volume of validation, reported on another seed. --write puts the tables into docs/lab/fib25.md.
The segmentation is the exact road in memory, which the tests hold equal to the pipeline; on FIB-25
with the stage `borders` at its defaults after it, as in pipelines/fib25.yaml, and without.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volflow.checkpoints.find import WEIGHTS
from volflow.checkpoints.header import Header
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.io.volume import Volume
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.borders import moved_borders
from volflow.stages.borders import Borders
from volflow.train.config.training import SourceSpec
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, Score, predicted, score

HERE = Path(__file__).parents[1]
DATA = Path(os.environ.get("VOLFLOW_DATA", HERE.parent / "shared" / "data"))
SLAB = f"hdf5://{DATA}/fib25_medulla/ts2_z000-165.h5"
PAGE = HERE / "docs" / "lab" / "fib25.md"

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
MIN_SIZES = (0, 500, 1000, 2000)
FLIPS = ("", "zyx")


AROUND = 32  # sections of the image on both sides of a part, where the network is shown them


@dataclass(frozen=True)
class Part:
    """A part of a volume, and the sections of it that are scored."""

    shown: SourceSpec
    scored: tuple[int, int | None] = (0, None)
    """First and last but one section."""


@dataclass(frozen=True)
class Trial:
    """One way to segment a volume, and how it went."""

    image: str
    moved: bool  # whether the stage `borders` came after it
    flips: str
    min_size: int
    score: Score


def fib25(sections: str) -> SourceSpec:
    image, labels = (VolumeSpec(path=f"{SLAB}?dataset={n}") for n in ("raw", "neuron_ids"))
    return SourceSpec(image=image, labels=labels, bounds=f"{sections},0:250,0:250")


def synthetic(bounds: str, seed: int) -> SourceSpec:
    return SourceSpec.model_validate({"synthetic": {"bounds": bounds, "seed": seed}})


def sections(first: int, last: int) -> dict[str, Part]:
    """Sections alone, and with the image around them; the public slab has 165."""
    low, high = max(0, first - AROUND), min(165, last + AROUND)
    return {
        "alone": Part(fib25(f"{first}:{last}")),
        "around": Part(fib25(f"{low}:{high}"), (first - low, last - low)),
    }


FIB25 = {"sections 120-135": sections(120, 135), "sections 135-165": sections(135, 165)}
PARTS = {
    "fib25-affinity": FIB25,
    "fib25-lsd": FIB25,
    "synth-affinity": {
        "seed 103, 96 x 128 x 128 voxels": {"alone": Part(synthetic("0:96,0:128,0:128", 103))},
        "seed 7, 128 x 160 x 160 voxels": {"alone": Part(synthetic("0:128,0:160,0:160", 7))},
    },
}


def with_borders_moved(
    segmentation: np.ndarray, affinity: np.ndarray, image: np.ndarray
) -> np.ndarray:
    """What `borders` makes of segments; the image is normalised to -1 to 1."""
    return moved_borders(segmentation, affinity, image * np.float32(Borders().brightness / 2))


def sweep(
    network: Inference, header: Header, parts: dict[str, Part], borders: bool
) -> Iterator[Trial]:
    for image, part in parts.items():
        source = open_source(part.shown, header.normalisation)
        scored = slice(*part.scored)
        truth = source.truth[scored]
        for flips in FLIPS:
            affinity = np.ascontiguousarray(predicted(network, source.image, flips)[:, scored])
            road = InMemoryPipeline(affinity)
            for min_size in MIN_SIZES:
                for threshold in THRESHOLDS:
                    found = road.segmentation(threshold, min_size)
                    yield Trial(image, False, flips, min_size, score(found, truth, threshold))
                    if borders:
                        found = with_borders_moved(found, affinity, source.image[scored])
                        yield Trial(image, True, flips, min_size, score(found, truth, threshold))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the least VI; of several that are equal, the one in the middle of them."""
    least = min(trial.score.vi for trial in trials)
    equal = [trial for trial in trials if trial.score.vi <= least + 1e-9]
    return equal[len(equal) // 2]


def same(trials: Sequence[Trial], wanted: Trial) -> Trial:
    """What the settings of another part's trial gave here."""
    return next(
        trial
        for trial in trials
        if (way(trial), trial.min_size, trial.score.threshold)
        == (way(wanted), wanted.min_size, wanted.score.threshold)
    )


def way(trial: Trial) -> tuple[str, bool, str]:
    """How an image was shown and segmented: what of it, borders moved or not, flips."""
    return trial.image, trial.moved, trial.flips


def ways(trials: Sequence[Trial]) -> list[tuple[str, bool, str]]:
    """The ways there are, those with moved borders first."""
    return sorted(dict.fromkeys(map(way, trials)), key=lambda way: not way[1])


def table(trials: Sequence[Trial], chosen: Trial) -> list[str]:
    """VI of the trials done as the chosen one is as to borders: a column per threshold."""
    lines = ["| image | flips | `min_size` | " + " | ".join(f"{t:g}" for t in THRESHOLDS) + " |"]
    lines.append("|---|---|---|" + "---|" * len(THRESHOLDS))
    for image, moved, flips in ways(trials):
        if moved != chosen.moved:
            continue
        for min_size in MIN_SIZES:
            row = [t for t in trials if (*way(t), t.min_size) == (image, moved, flips, min_size)]
            cells = [f"**{t.score.vi:.3f}**" if t == chosen else f"{t.score.vi:.3f}" for t in row]
            lines.append(
                f"| {image} | {flips or 'none'} | {min_size} | " + " | ".join(cells) + " |"
            )
    return lines


def flood_filling(sections: str) -> Score:
    """The published flood-filling result, made on the whole volume, on the same voxels."""
    box = Box.parse(f"{sections},0:250,0:250")
    found, truth = (
        Volume.open(VolumeSpec(path=f"{SLAB}?dataset={name}")).read(box)
        for name in ("ffn", "neuron_ids")
    )
    return score(found, truth.astype(np.int64), 0)


def shown(name: str, found: Score, theirs: Score | None) -> str:
    ratio = f" {found.vi / theirs.vi:.3f} |" if theirs else ""
    return (
        f"| {name} | {found.vi_split:.3f} | {found.vi_merge:.3f} | {found.vi:.3f} | "
        f"{found.arand:.3f} |{ratio}"
    )


def report(name: str, weights: Path) -> list[str]:
    """The section of the page about one network."""
    checkpoint, header = load_checkpoint(weights)
    network = Inference(checkpoint, header, (0, 1, 2), "cpu")
    parts = PARTS[name]
    borders = name.startswith("fib25")
    trials = {title: list(sweep(network, header, part, borders)) for title, part in parts.items()}
    first, second = parts
    theirs = flood_filling("135:165") if name.startswith("fib25") else None
    against = " | of flood filling's" if theirs else ""
    summary = [f"| | VI split | VI merge | VI | ARAND{against} |"]
    summary.append("|---" * (6 if theirs else 5) + "|")
    for image, moved, flips in ways(trials[first]):
        chosen = best([t for t in trials[first] if way(t) == (image, moved, flips)])
        how = [
            "the image around shown too" if image == "around" else "shown alone",
            "averaged over flips" if flips else "one look",
            f"threshold {chosen.score.threshold:g}",
            f"`min_size` {chosen.min_size}",
            *(["without `borders`"] if borders and not moved else []),
        ]
        found = same(trials[second], chosen).score
        summary.append(shown(f"{second}: {', '.join(how)}", found, theirs))
    if theirs:
        summary.append(shown(f"{second}: flood filling (published)", theirs, theirs))
    chosen = best([trial for trial in trials[first] if trial.moved == borders])
    done = " with `borders`" if borders else ""
    tables = []
    for title in parts:
        bold = chosen if title == first else same(trials[second], chosen)
        tables += ["", f"VI on {title}{done}; bold: the setting chosen on {first}.", ""]
        tables += table(trials[title], bold)
    return [f"### {name}", "", *summary, *tables, ""]


def write(name: str, lines: list[str]) -> None:
    """Put a section between its marks on the page."""
    before, begin, rest = PAGE.read_text().partition(f"<!-- {name}: begin -->")
    _, end, after = rest.partition(f"<!-- {name}: end -->")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/lab/fib25.md")
    parser.add_argument("--network", choices=list(PARTS), action="append")
    parser.add_argument("--weights", type=Path, help="a checkpoint in place of the shipped one")
    arguments = parser.parse_args()
    for name in arguments.network or list(PARTS):
        lines = report(name, arguments.weights or WEIGHTS / f"{name}.safetensors")
        print("\n".join(lines))
        if arguments.write:
            write(name, lines)


if __name__ == "__main__":
    main()
