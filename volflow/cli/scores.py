"""`score`: how far a segmentation is from the truth."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from volflow.cli import options
from volflow.errors import PlanError

if TYPE_CHECKING:
    from volflow.core.geometry import Box

BLOCK = 256  # voxels along each side of a block: nothing is written, so no chunk has a say


@click.command()
@click.option("--segmentation", metavar="ADDRESS", required=True, help="Labels to be judged.")
@click.option("--truth", metavar="ADDRESS", required=True, help="Labels taken as right; 0 ignored.")
@click.option(
    "--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="In voxels; default: where both volumes are."
)
@click.option("--out", metavar="DIR", help="Keep the run, and its results/score.json, there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, all numbers in full.")
@options.workers
def score(
    segmentation: str,
    truth: str,
    bounds: str | None,
    out: str | None,
    as_json: bool,
    cluster: str,
    workers: int | None,
    timeout: float | None,
) -> None:
    """Score a segmentation against the truth.

    Variation of information in bits (split + merge) and adapted Rand error.

    Voxels where the truth is 0 are not counted. Blocks do not change the result.
    """
    from volflow.cli.runs import conclude, run_folder
    from volflow.cli.text import output
    from volflow.engine.api import run

    box = bounds or str(common_bounds(segmentation, truth))
    with run_folder(out) as folder:
        result = run(
            pipeline(folder, segmentation, truth),
            cluster=cluster,
            workers=workers,
            timeout=timeout,
            bounds=box,
        )
        if not result.ok:
            conclude(result)
    scores = result.results["score"]
    if as_json:
        click.echo(json.dumps(scores, indent=1, sort_keys=True))
        return
    console = output()
    console.print(f"bounds     {box}", style="dim", markup=False)
    print_scores(scores)


def pipeline(run: str, segmentation: str, truth: str) -> dict[str, Any]:
    """A pipeline of one step that scores."""
    return {
        "run": run,
        "volumes": {"segmentation": {"path": segmentation}, "truth": {"path": truth}},
        "block": [BLOCK] * 3,
        "steps": [{"use": "score"}],
    }


def common_bounds(first: str, second: str) -> Box:
    """Where both volumes have voxels.

    Raises
    ------
    PlanError
        If they do not meet.
    """
    from volflow.core.pipeline import VolumeSpec
    from volflow.io.volume import Volume

    one, other = (Volume.open(VolumeSpec(path=path)).bounds for path in (first, second))
    both = one.clip(other)
    if not both.size:
        raise PlanError(f"{first} covers {one} and {second} covers {other}: they do not meet")
    if both != one:
        click.echo(f"scored where both are: {both} (of {one} and {other})", err=True)
    return both


def print_scores(scores: dict[str, Any]) -> None:
    """Print the scores that papers quote; leaves with an error if there was nothing to score."""
    from volflow.cli.text import count, output

    if scores["vi"] is None:
        click.echo("volflow: the truth is 0 everywhere, so there is nothing to score", err=True)
        sys.exit(2)
    lines = [
        (
            "VI",
            f"{scores['vi']:.4f} bits   split {scores['vi_split']:.4f}"
            f" + merge {scores['vi_merge']:.4f}",
        ),
        (
            "ARAND",
            f"{scores['arand']:.4f}        precision {scores['precision']:.4f}"
            f", recall {scores['recall']:.4f}",
        ),
        (
            "counted",
            f"{count(scores['voxels'])} voxels, {count(scores['truth_labels'])} true "
            f"and {count(scores['segments'])} found labels",
        ),
    ]
    for name, text in lines:
        output().print(f"[bold]{name:<10}[/] {text}")
