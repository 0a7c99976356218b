"""Quality of the bundled networks: thresholds are chosen on one part and scored on another.

    python -m benchmarks.networks.quality [--write] [--network NAME ...] [--weights FILE]

FIB-25: trained on sections 0 to 120, chosen on 120 to 135, reported on 135 to 165, each part
segmented alone. The network sees either the part alone (image, intensities and all), or also the
image around it, as when the part is cut from a prediction of the whole. Synthetic: chosen on the
validation volume, reported on another seed. --write writes the tables to docs/lab/fib25.md. The
segmentation is the exact pipeline in memory, which equals that of the engine (held by tests); on
FIB-25 with and without the stage `borders` at its defaults, as in pipelines/fib25.yaml.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import FIB25 as FIB25_FOLDER
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

HERE = Path(__file__).parents[2]
SLAB = f"hdf5://{FIB25_FOLDER}/ts2_z000-165.h5"
PAGE = HERE / "docs" / "lab" / "fib25.md"

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
MIN_SIZES = (0, 500, 1000, 2000)
FLIPS = ("", "zyx")


AROUND = 32  # sections of the image on both sides of a part, for the network alone


@dataclass(frozen=True)
class Part:
    """A part of a volume, and the sections of it that are scored."""

    shown: SourceSpec
    scored: tuple[int, int | None] = (0, None)
    """First and last section, half-open."""


@dataclass(frozen=True)
class Trial:
    """One way to segment a volume, and its score."""

    image: str
    moved: bool  # whether the stage `borders` followed
    flips: str
    min_size: int
    score: Score


def fib25(sections: str) -> SourceSpec:
    image, labels = (VolumeSpec(path=f"{SLAB}?dataset={n}") for n in ("raw", "neuron_ids"))
    return SourceSpec(image=image, labels=labels, bounds=f"{sections},0:250,0:250")


def synthetic(bounds: str, seed: int) -> SourceSpec:
    return SourceSpec.model_validate({"synthetic": {"bounds": bounds, "seed": seed}})


def sections(first: int, last: int) -> dict[str, Part]:
    """Sections alone, and with the image around them; the public slab has 165 sections."""
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
    """Segments after the stage `borders`; the image is normalised to -1 to 1."""
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
            pipeline = InMemoryPipeline(affinity)
            for min_size in MIN_SIZES:
                for threshold in THRESHOLDS:
                    segments = pipeline.segmentation(threshold, min_size)
                    yield Trial(image, False, flips, min_size, score(segments, truth, threshold))
                    if borders:
                        moved = with_borders_moved(segments, affinity, source.image[scored])
                        yield Trial(image, True, flips, min_size, score(moved, truth, threshold))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the lowest VI; the middle one of several equal ones."""
    lowest = min(trial.score.vi for trial in trials)
    equal = [trial for trial in trials if trial.score.vi <= lowest + 1e-9]
    return equal[len(equal) // 2]


def same(trials: Sequence[Trial], other: Trial) -> Trial:
    """The trial with the settings of a trial on another part."""
    return next(
        trial
        for trial in trials
        if (way(trial), trial.min_size, trial.score.threshold)
        == (way(other), other.min_size, other.score.threshold)
    )


def way(trial: Trial) -> tuple[str, bool, str]:
    """The image shown to the network, whether borders were moved, and flips."""
    return trial.image, trial.moved, trial.flips


def ways(trials: Sequence[Trial]) -> list[tuple[str, bool, str]]:
    """The ways in some trials, those with moved borders first."""
    return sorted(dict.fromkeys(map(way, trials)), key=lambda way: not way[1])


def table(trials: Sequence[Trial], chosen: Trial) -> list[str]:
    """VI of the trials with or without `borders`, as the chosen one: a column per threshold."""
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
    """The score of the published flood-filling result for the whole volume, on the same voxels."""
    box = Box.parse(f"{sections},0:250,0:250")
    segments, truth = (
        Volume.open(VolumeSpec(path=f"{SLAB}?dataset={name}")).read(box)
        for name in ("ffn", "neuron_ids")
    )
    return score(segments, truth.astype(np.int64), 0)


def score_row(name: str, own: Score, theirs: Score | None) -> str:
    ratio = f" {own.vi / theirs.vi:.3f} |" if theirs else ""
    return (
        f"| {name} | {own.vi_split:.3f} | {own.vi_merge:.3f} | {own.vi:.3f} | "
        f"{own.arand:.3f} |{ratio}"
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
    against = " | relative to flood filling" if theirs else ""
    summary = [f"| | VI split | VI merge | VI | ARAND{against} |"]
    summary.append("|---" * (6 if theirs else 5) + "|")
    for image, moved, flips in ways(trials[first]):
        chosen = best([t for t in trials[first] if way(t) == (image, moved, flips)])
        how = [
            "with the image around it" if image == "around" else "shown alone",
            "averaged over flips" if flips else "no flips",
            f"threshold {chosen.score.threshold:g}",
            f"`min_size` {chosen.min_size}",
            *(["without `borders`"] if borders and not moved else []),
        ]
        own = same(trials[second], chosen).score
        summary.append(score_row(f"{second}: {', '.join(how)}", own, theirs))
    if theirs:
        summary.append(score_row(f"{second}: flood filling (published)", theirs, theirs))
    chosen = best([trial for trial in trials[first] if trial.moved == borders])
    done = " with `borders`" if borders else ""
    tables = []
    for title in parts:
        bold = chosen if title == first else same(trials[second], chosen)
        tables += ["", f"VI on {title}{done}; bold: the setting chosen on {first}.", ""]
        tables += table(trials[title], bold)
    return [f"### {name}", "", *summary, *tables, ""]


def write(name: str, lines: list[str]) -> None:
    """Write a section between its marks on the page."""
    before, begin, rest = PAGE.read_text().partition(f"<!-- {name}: begin -->")
    _, end, after = rest.partition(f"<!-- {name}: end -->")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write to docs/lab/fib25.md")
    parser.add_argument("--network", choices=list(PARTS), action="append")
    parser.add_argument("--weights", type=Path, help="a checkpoint instead of the bundled one")
    arguments = parser.parse_args()
    for name in arguments.network or list(PARTS):
        lines = report(name, arguments.weights or WEIGHTS / f"{name}.safetensors")
        print("\n".join(lines))
        if arguments.write:
            write(name, lines)


if __name__ == "__main__":
    main()
