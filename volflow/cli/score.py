"""`score`: how far a segmentation is from the truth, and where."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from volflow.cli import UNMET
from volflow.cli.terminal import options
from volflow.errors import PlanError
from volflow.version import __version__

if TYPE_CHECKING:
    from volflow.cli.scoring.partners import Pairing, PartnerTables
    from volflow.cli.scoring.pipeline import Request
    from volflow.config.pipeline import Pipeline
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan, RunResult


@click.command()
@click.option("--segmentation", metavar="ADDRESS", help="Labels to be judged.")
@click.option("--truth", metavar="ADDRESS", help="Labels taken as right; 0 is not counted.")
@click.option("--skeletons", metavar="ADDRESS", help="Skeletons taken as right (SWC, ...): ERL.")
@click.option("--mito", metavar="ADDRESS", help="Labels of mitochondria, for bERL.")
@click.option("--clefts", metavar="ADDRESS", help="Labels of synaptic clefts, for bERL.")
@click.option("--nuclei", metavar="ADDRESS", help="Labels of nuclei, for nERL.")
@click.option("--found-clefts", metavar="ADDRESS", help="Labels of clefts to be judged.")
@click.option("--true-clefts", metavar="ADDRESS", help="Labels of clefts taken as right.")
@click.option("--partners", metavar="FILE.csv", help="Synaptic partners found, to be judged.")
@click.option("--true-partners", metavar="FILE.csv", help="Synaptic partners taken as right.")
@click.option(
    "--partner-distance",
    metavar="NM",
    type=click.FloatRange(0, min_open=True, max=1e9),
    default=400.0,
    show_default=True,
    help="How near each end of a found pair must be.",
)
@click.option("--sweep", metavar="RUN", help="A run of several thresholds: score each.")
@click.option("--objects", is_flag=True, help="Objects found, too: precision, recall, F1, AP.")
@click.option(
    "--border",
    metavar="VOXELS",
    type=click.FloatRange(0),
    default=0.0,
    help="Do not count voxels this near to a border between true objects.",
)
@click.option(
    "--require",
    metavar="LIMIT",
    multiple=True,
    help="'vi<=1.0', 'erl>=1000': exit code 5 where it is not met. May be repeated.",
)
@click.option("--image", metavar="ADDRESS", help="To see errors in; it is not scored.")
@click.option(
    "--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="In voxels; default: where both volumes are."
)
@click.option("--out", metavar="DIR", help="Leave the report there; `volflow view DIR` shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, all numbers in full.")
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="As for run: steps.score.worst=50, volumes.truth.offset=[0,9,9], resolution=[8,8,8].",
)
@options.workers
def score(
    partners: str | None,
    true_partners: str | None,
    partner_distance: float,
    sweep: str | None,
    objects: bool,
    border: float,
    require: tuple[str, ...],
    image: str | None,
    bounds: str | None,
    out: str | None,
    as_json: bool,
    overrides: tuple[str, ...],
    cluster: str,
    workers: int | None,
    timeout: float | None,
    **addresses: str | None,
) -> None:
    """Score a segmentation or synaptic partners against the truth.

    Against labels: variation of information in bits (split + merge) and adapted Rand error, and
    the worst errors with their places. Against skeletons: expected run lengths. Clefts and
    partners: precision, recall, F1. Partners are pairs of sites in nm (columns pre_z, pre_y,
    pre_x, post_z, ...), with or without volumes; their neurons are looked up in --truth.

    Blocks do not change the result. With --out: report.html, report.md, scores.json and tables.
    """
    from volflow.cli.scoring.pipeline import Request
    from volflow.cli.terminal.run_folder import run_folder
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout)
    volumes = {name: path for name, path in {**addresses, "em": image}.items() if path}
    tables = _tables(partners, true_partners, partner_distance)
    request = Request(
        volumes, objects, border, require, bounds, out, overrides, partners=tables is not None
    )
    with run_folder(out) as folder:
        work = _plan(request, folder, sweep, tables, profile)
        result = None if work.plan is None else _run(work.plan, profile)
        more = {
            name: found
            for each in work.sweeps
            for name, found in _run(each, profile).results.items()
        }
        if work.pairing is not None:
            more["partners"] = work.pairing.result()
        document = _document(work, result, more)
        if as_json:
            click.echo(json.dumps(_flat(document["results"]), indent=1, sort_keys=True))
        else:
            print_scores(document["results"], document["bounds"])
        if document["results"].get("score", {}).get("vi", 0) is None:
            click.echo("volflow: the truth is 0 everywhere, so there is nothing to score", err=True)
            sys.exit(2)
        if out:
            _leave(out, document, quiet=as_json)
    if result is not None and result.unmet:
        print_unmet(result.unmet)
        sys.exit(UNMET)


class Work(NamedTuple):
    """What is to be done: a plan (none where only tables are compared), sweeps, and tables."""

    plan: Plan | None
    sweeps: list[Plan]
    pairing: Pairing | None


def _tables(found: str | None, truth: str | None, distance: float) -> PartnerTables | None:
    """Both tables, or none."""
    if found is None and truth is None:
        return None
    if found is None or truth is None:
        given, needed = ("--partners", "--true-partners")[:: 1 if truth is None else -1]
        raise PlanError(f"{given} needs {needed}")
    from volflow.cli.scoring.partners import PartnerTables

    return PartnerTables(found, truth, distance)


def _plan(
    request: Request,
    folder: str,
    sweep: str | None,
    tables: PartnerTables | None,
    profile: Profile,
) -> Work:
    """The plans and tables; all mistakes that can be known are told at once."""
    from volflow.cli.scoring.pipeline import cut, make_pipeline
    from volflow.cli.scoring.sweep import plan_sweep
    from volflow.engine.api import make_plan

    problems: list[str] = []
    pipeline: Pipeline | None = None
    planned: Plan | None = None
    sweeps: list[Plan] = []
    pairing: Pairing | None = None
    try:
        pipeline, problems = make_pipeline(request, folder)
        if request.steps:
            planned = make_plan(pipeline, profile=profile)
    except PlanError as error:
        problems += _not_told(error.problems, problems)
    try:
        sweeps = plan_sweep(sweep, request.volumes, profile) if sweep else []
    except PlanError as error:
        problems += error.problems
    if tables is not None:
        from volflow.cli.scoring.partners import make_pairing

        pairing = make_pairing(tables, request.volumes, pipeline, planned, problems)
    if problems:
        raise PlanError(*problems)
    note = "" if request.bounds or planned is None else cut(planned.pipeline)
    if note:
        click.echo(note, err=True)
    return Work(planned, sweeps, pairing)


def _not_told(more: list[str], problems: list[str]) -> list[str]:
    """Mistakes that the planner found, without those that were found in the options before."""
    out = any(text.startswith("--out") for text in problems)
    sides = any("has voxels of" in text for text in problems)
    return [
        text
        for text in more
        if not (out and text.startswith("run:")) and not (sides and ": resolution " in text)
    ]


def _run(planned: Plan, profile: Profile) -> RunResult:
    """Run the plan; leaves with 3 or 130 if it did not finish."""
    from volflow.cli.terminal.execution import report_outcome
    from volflow.engine.api import carry_out

    result = carry_out(planned, profile)
    if not result.ok:
        report_outcome(result)
    return result


def _document(work: Work, result: RunResult | None, more: Mapping[str, Any]) -> dict[str, Any]:
    from volflow.view.neuroglancer.layers import run_layers
    from volflow.view.report.score_document import make_document

    pairing = work.pairing
    read = {} if pairing is None else pairing.addresses()
    if work.plan is not None and result is not None:
        return make_document(
            {**result.results, **more},
            bounds=str(work.plan.bounds),
            resolution=work.plan.resolution,
            layers=run_layers(result.run),
            version=__version__,
            unmet=result.unmet,
            tables=read,
        )
    assert pairing is not None
    return make_document(
        more,
        bounds="" if pairing.bounds is None else str(pairing.bounds),
        resolution=pairing.resolution,
        layers=None,
        version=__version__,
        tables=read,
    )


def _leave(out: str, document: Mapping[str, Any], quiet: bool) -> None:
    from volflow.cli.terminal.formatting import output
    from volflow.view.report.score_document import can_be_viewed
    from volflow.view.report.score_page import leave_score_report

    names = leave_score_report(out, document)
    if not quiet:
        told = f"wrote {', '.join(names)} in {out}"
        if can_be_viewed(document):
            told += f"\nits errors in Neuroglancer: volflow view {out}"
        output().print(told, markup=False, style="dim", soft_wrap=True)


def _flat(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Results for programs: the scores of labels at the top, those of other steps by their name."""
    rest = {name: found for name, found in results.items() if name != "score"}
    return {**results.get("score", {}), **rest}


def print_scores(results: Mapping[str, Mapping[str, Any]], bounds: str = "") -> None:
    """Print the scores that papers quote, from the results of steps."""
    from volflow.cli.terminal.formatting import output

    console = output()
    if bounds:
        console.print(f"bounds     {bounds}", style="dim", markup=False)
    for result in results.values():
        for name, text in _lines(result):
            console.print(f"[bold]{name:<10}[/] {text}")


def _lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each line about a result."""
    from volflow.cli.terminal.formatting import count
    from volflow.view.report.detections import detections

    lines = []
    if result.get("vi") is not None:
        split, merge = result["vi_split"], result["vi_merge"]
        lines += [
            ("VI", f"{result['vi']:.4f} bits   split {split:.4f} + merge {merge:.4f}"),
            (
                "ARAND",
                f"{result['arand']:.4f}        precision {result['precision']:.4f}"
                f", recall {result['recall']:.4f}",
            ),
            (
                "counted",
                f"{count(result['voxels'])} voxels, {count(result['truth_labels'])} true "
                f"and {count(result['segments'])} found labels",
            ),
        ]
    if result.get("erl") is not None:
        share = result.get("erl_ratio")
        of = f"   {share:.1%} of {result['erl_max']:,.0f} nm" if share is not None else ""
        lines.append(("ERL", f"{result['erl']:,.0f} nm{of}"))
        for key, name in (("terl", "tERL"), ("berl", "bERL"), ("nerl_norm", "nERL")):
            if result.get(key) is not None:
                lines.append((name, f"{result[key]:,.0f} nm"))
    for found in detections(result):
        lines.append((found.short, found.sentence()))
    best = result.get("best")
    if isinstance(best, Mapping) and best.get("vi") is not None:
        number = len(result.get("thresholds", ()))
        text = f"threshold {best['threshold']:g} of {number}: VI {best['vi']:.4f} bits"
        lines.append(("best", text))
    return lines


def print_unmet(unmet: list[str]) -> None:
    """Print the requirements that are not met, a line each."""
    for text in unmet:
        click.echo(click.style("not met: ", fg="red", bold=True) + text, err=True)
