"""`score`: distances of a segmentation from the truth, and the places of its errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from volflow.cli import BAD_PLAN, UNMET
from volflow.cli.terminal import options
from volflow.version import __version__

if TYPE_CHECKING:
    from volflow.cli.scoring.plans import ScorePlans
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan
    from volflow.engine.result import RunResult


@click.command()
@click.option("--segmentation", metavar="ADDRESS", help="Labels to score.")
@click.option("--truth", metavar="ADDRESS", help="True labels; voxels of 0 are not counted.")
@click.option("--skeletons", metavar="ADDRESS", help="True skeletons (SWC, ...), for ERL.")
@click.option("--mito", metavar="ADDRESS", help="Labels of mitochondria, for bERL.")
@click.option("--clefts", metavar="ADDRESS", help="Labels of synaptic clefts, for bERL.")
@click.option("--nuclei", metavar="ADDRESS", help="Labels of nuclei, for nERL.")
@click.option("--found-clefts", metavar="ADDRESS", help="Labels of clefts to score.")
@click.option("--true-clefts", metavar="ADDRESS", help="True labels of clefts.")
@click.option("--partners", metavar="FILE.csv", help="Table of synaptic partners to score.")
@click.option("--true-partners", metavar="FILE.csv", help="Table of the true synaptic partners.")
@click.option(
    "--partner-distance",
    metavar="NM",
    type=click.FloatRange(0, min_open=True, max=1e9),
    default=400.0,
    show_default=True,
    help="Largest distance of each end of a matched pair, in nm.",
)
@click.option("--sweep", metavar="RUN", help="Run with several thresholds: score each of them.")
@click.option("--objects", is_flag=True, help="Score objects too: precision, recall, F1, AP.")
@click.option(
    "--border",
    metavar="VOXELS",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Leave out voxels this close to a border between true objects.",
)
@click.option(
    "--require",
    metavar="LIMIT",
    multiple=True,
    help="'vi<=1.0', 'erl>=1000': exit with 5 if the limit is not met. May be repeated.",
)
@click.option(
    "--image", metavar="ADDRESS", help="Image behind the errors in the viewer; not scored."
)
@click.option(
    "--bounds",
    metavar=options.BOUNDS,
    help="Part to score, in voxels, half-open.",
    show_default="where both volumes overlap",
)
@click.option("--out", metavar="DIR", help="Folder for the report; `volflow view DIR` shows it.")
@options.json_output
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

    Against labels: variation of information in bits (split + merge), adapted Rand error, and the
    worst errors with their places. Against skeletons: expected run lengths. Clefts and partners:
    precision, recall, F1. Partners are pairs of sites in nm (columns pre_z, pre_y, pre_x, post_z,
    ...), with or without volumes; their neurons are looked up in --truth.

    Blocks do not change the result. With --out: report.html, report.md, scores.json and tables.
    """
    from volflow.cli.scoring.plans import partner_tables, plan_scores
    from volflow.cli.scoring.printing import print_scores
    from volflow.cli.scoring.request import Request
    from volflow.cli.terminal.execution import print_unmet
    from volflow.cli.terminal.formatting import print_warnings
    from volflow.cli.terminal.run_folder import run_folder
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers=workers, timeout=timeout)
    volumes = {name: path for name, path in {**addresses, "em": image}.items() if path}
    tables = partner_tables(partners, true_partners, partner_distance)
    request = Request(
        volumes=volumes,
        objects=objects,
        border=border,
        require=require,
        bounds=bounds,
        out=out,
        overrides=overrides,
        partners=tables is not None,
    )
    with run_folder(out) as folder:
        plans = plan_scores(request, folder, sweep, tables, profile)
        if plans.note and not options.quiet():
            click.echo(plans.note, err=True)
        result = None if plans.plan is None else _run(plans.plan, profile)
        more: dict[str, Any] = {}
        for each in plans.sweeps:
            more.update(_run(each, profile).results)
        if plans.pairing is not None:
            print_warnings(plans.pairing.warnings)
            more["partners"] = plans.pairing.result()
        document = _document(plans, result, more)
        if as_json:
            click.echo(json.dumps(_flat(document["results"]), indent=1, sort_keys=True))
        else:
            print_scores(document["results"], document["bounds"])
        if document["results"].get("score", {}).get("vi", 0) is None:
            click.echo("volflow: the truth is 0 everywhere, so there is nothing to score", err=True)
            sys.exit(BAD_PLAN)
        if out:
            _write_report(out, document, silent=as_json or options.quiet())
    if result is not None and result.unmet:
        print_unmet(result.unmet)
        sys.exit(UNMET)


def _run(planned: Plan, profile: Profile) -> RunResult:
    """Run a plan; exit with 3 or 130 if it does not finish."""
    from volflow.cli.terminal.execution import report_outcome
    from volflow.cli.terminal.formatting import print_warnings
    from volflow.engine.api import carry_out

    print_warnings(planned.warnings)
    result = carry_out(planned, profile)
    if not result.ok:
        report_outcome(result)
    return result


def _document(
    plans: ScorePlans, result: RunResult | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The scores with all that the report needs."""
    from volflow.view.layers import run_layers
    from volflow.view.report.score.document import make_document

    pairing = plans.pairing
    tables = {} if pairing is None else pairing.addresses()
    if plans.plan is not None and result is not None:
        return make_document(
            {**result.results, **more},
            bounds=str(plans.plan.bounds),
            resolution=plans.plan.resolution,
            layers=run_layers(result.run),
            version=__version__,
            unmet=result.unmet,
            tables=tables,
        )
    assert pairing is not None
    return make_document(
        more,
        bounds="" if pairing.bounds is None else str(pairing.bounds),
        resolution=pairing.resolution,
        layers=None,
        version=__version__,
        tables=tables,
    )


def _write_report(out: str, document: Mapping[str, Any], silent: bool) -> None:
    from volflow.cli.terminal.formatting import output
    from volflow.view.report.score.document import can_be_viewed
    from volflow.view.report.score.page import leave_score_report

    names = leave_score_report(out, document)
    if not silent:
        text = f"wrote {', '.join(names)} in {out}"
        if can_be_viewed(document):
            text += f"\nerrors in Neuroglancer: volflow view {out}"
        output().print(text, markup=False, style="dim", soft_wrap=True)


def _flat(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Results as JSON: the scores of labels at the top, those of other steps by their name."""
    others = {name: result for name, result in results.items() if name != "score"}
    return {**results.get("score", {}), **others}
