"""Execution of a plan with progress on the terminal, and the exit code of its outcome."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from volflow.cli import BLOCKS_FAILED, INTERRUPTED, STALLED, UNMET
from volflow.cli.terminal import options
from volflow.cli.terminal.visible import visible

if TYPE_CHECKING:
    from volflow.engine.executors.profile import Profile
    from volflow.engine.job import Plan
    from volflow.engine.result import RunResult


def run_with_progress(
    plan: Plan, profile: Profile, as_json: bool = False, *, temporary: bool = False
) -> RunResult:
    """Execute a plan, show its progress, and exit with the code of an outcome that is not 0.

    With `as_json` the summary of the run is the only text on stdout (the keys of
    `volflow.engine.monitor.run_summary.summary`), and the progress is on stderr. The folder of a
    `temporary` run is deleted when it succeeds, so it is not mentioned.
    """
    from volflow.cli.terminal.formatting import (
        downsampling_lines,
        errors,
        output,
        print_warnings,
    )
    from volflow.cli.terminal.progress import progress_display
    from volflow.engine.api import carry_out
    from volflow.engine.monitor.run_summary import summary

    console = errors() if as_json else output()
    start = time.monotonic()
    print_warnings(plan.warnings)
    if options.quiet():
        result = carry_out(plan, profile)
    else:
        if not temporary:
            console.print(f"run {plan.pipeline.run}", markup=False)
            for line in downsampling_lines(plan):
                console.print(line, markup=False, soft_wrap=True)
        with progress_display(plan, console) as observer:
            result = carry_out(plan, profile, observer)
    if not result.ok:
        _print_log_folder(plan, profile)
    if as_json:
        document = summary(plan, profile, result, time.monotonic() - start)
        click.echo(json.dumps(document, indent=1))
    report_outcome(result, silent=as_json, temporary=temporary)
    return result


def report_outcome(result: RunResult, silent: bool = False, *, temporary: bool = False) -> None:
    """Print the outcome of a run; exit with 3, 6 or 130 if it did not finish, with 5 if unmet.

    Parameters
    ----------
    result : RunResult
    silent : bool
        Print nothing where every block is done.
    temporary : bool
        Do not mention the run's folder where every block is done: it is deleted.
    """
    if not result.ok:
        _print_unfinished(result)
        if result.stalled:
            sys.exit(STALLED)
        sys.exit(INTERRUPTED if result.interrupted else BLOCKS_FAILED)
    if not (silent or options.quiet()):
        _print_done(result, temporary)
    if result.unmet:
        print_unmet(result.unmet)
        sys.exit(UNMET)


def _print_log_folder(plan: Plan, profile: Profile) -> None:
    from volflow.cli.terminal.formatting import errors
    from volflow.engine.executors.slurm.preflight import log_folder

    folder = log_folder(plan, profile)
    if folder:
        errors().print(f"logs of the workers: {folder}", markup=False)


def print_unmet(unmet: list[str]) -> None:
    """Print the requirements that the results do not meet, one per line."""
    for text in unmet:
        click.echo(click.style("not met: ", fg="red", bold=True) + visible(text), err=True)


def _print_done(result: RunResult, temporary: bool) -> None:
    from rich.markup import escape

    from volflow.cli.terminal.formatting import output, plural

    console = output()
    already = sum(step.already for step in result.steps)
    blocks = sum(step.total for step in result.steps)
    before = f", {already:,} of them done before" if already else ""
    console.print(f"[green]done[/]: {plural(blocks, 'block')}{before}")
    if result.segments:
        console.print(segments_text(result.segments), markup=False)
        for text in result.segments.get("advice", ()):
            console.print(f"[yellow]look:[/] {escape(visible(text))}", soft_wrap=True)
    if not temporary:
        console.print(f"{result.run}/report.html; or: volflow view {result.run}", markup=False)


def segments_text(segments: Mapping[str, Any]) -> str:
    """Number and median size of the segments of a run in one line."""
    number, median, unit = segments["number"], segments["median"], segments["unit"]
    noun = "segment" if number == 1 else "segments"
    text = f"{segments['layer']}: {number:,} {noun}, median size {median:.3g} {unit}"
    if segments["voxel_nm"] is None:
        return text
    sides = " x ".join(f"{side:g}" for side in segments["voxel_nm"])
    return f"{text} (counted in voxels of {sides} nm; smaller ones may be missing)"


def _print_unfinished(result: RunResult) -> None:
    from volflow.cli.terminal.formatting import errors, print_failures

    console = errors()
    if result.failures:
        console.print()
        print_failures(console, result.run, result.failures)
        waiting = [step.name for step in result.steps if not step.started]
        if waiting:
            console.print(f"\nnot started: {', '.join(waiting)}", markup=False)
    if result.stalled:
        console.print(f"\n{result.stalled}; the run was ended", markup=False)
    elif result.interrupted:
        console.print("\ninterrupted; finished blocks stay done", markup=False)
    console.print(f"resume with: volflow retry {result.run}", markup=False)
