"""Quality on FIB-25 by threshold and joining rounds, compared with published segmentations.

    python -m benchmarks.segmentation.sweep        a few minutes, prints two tables (Markdown)

Sections 150-165 of the slab, on which the baseline's network was not trained, are segmented alone
by the bundled stages. The published FFN result and the supplied oversegmentation are cropped to the
same sections and scored by the same stage. Voxels with truth 0 are ignored; label 0 of a
segmentation counts like any other segment.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import volflow
from benchmarks.data import AFFINITY, RESOLUTION, labels

BOUNDS = "150:165,0:250,0:250"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ROUNDS = (0, 1, 2)
SIZES = (0, 500, 2000)
TRUTH = {"path": labels("neuron_ids"), "resolution": list(RESOLUTION)}
SCORES = ("vi_split", "vi_merge", "vi", "arand", "precision", "recall")

Scores = dict[str, Any]


def scored(run: Path, address: str) -> Scores:
    """The scores of an existing segmentation."""
    pipeline = {
        "run": str(run),
        "bounds": BOUNDS,
        "block": [15, 125, 125],
        "volumes": {
            "segmentation": {"path": address, "resolution": list(RESOLUTION)},
            "truth": TRUTH,
        },
        "steps": [{"use": "score"}],
    }
    return _scores(pipeline)


def segmented(run: Path, **parameters: float) -> Scores:
    """The scores of the baseline's affinities, agglomerated with some parameters."""
    pipeline = {
        "run": str(run),
        "bounds": BOUNDS,
        "block": [15, 250, 250],
        "volumes": {
            "affinity": {"path": AFFINITY, "resolution": list(RESOLUTION)},
            "truth": TRUTH,
        },
        "steps": [
            {"use": "fragments"},
            {"use": "agglomerate", "with": parameters},
            {"use": "relabel"},
            {"use": "score"},
        ],
    }
    return _scores(pipeline)


def _scores(pipeline: dict[str, Any]) -> Scores:
    result = volflow.run(pipeline)
    if not result.ok:
        raise RuntimeError("\n".join(failure.error for failure in result.failures))
    return result.results["score"]


def row(name: str, scores: Scores) -> str:
    """A row of a Markdown table."""
    values = " | ".join(f"{scores[key]:.3f}" for key in SCORES)
    return f"| {name} | {values} | {scores['segments']} |"


def table(title: str, rows: list[str]) -> None:
    """Print a Markdown table."""
    heads = " | ".join(name.replace("_", " ") for name in SCORES)
    print(f"\n| {title} | {heads} | segments |\n|{'---|' * (len(SCORES) + 2)}", flush=True)
    print("\n".join(rows), flush=True)


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        others = {"FFN, published": "ffn", "oversegmentation, supplied": "overseg"}
        rows = [row(name, scored(Path(folder, key), labels(key))) for name, key in others.items()]
        table("published", rows)
        by_setting = {
            (size, rounds, threshold): segmented(
                Path(folder, "run"), threshold=threshold, join_rounds=rounds, min_size=size
            )
            for size in SIZES
            for rounds in ROUNDS
            for threshold in THRESHOLDS
        }
        rows = [
            row(f"min_size {size}, {rounds} joining rounds, threshold {threshold}", scores)
            for (size, rounds, threshold), scores in by_setting.items()
        ]
        table("baseline affinities", rows)
        best = min(by_setting, key=lambda key: by_setting[key]["vi"])
        print(f"\nlowest VI: min_size {best[0]}, {best[1]} joining rounds, threshold {best[2]}")


if __name__ == "__main__":
    main()
