"""`run`, `retry` and `block`: what moves a run on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from volflow.cli import BLOCKS_FAILED, INTERRUPTED, STALLED, UNMET
from volflow.cli.terminal import options
from volflow.errors import PlanError, RunHeld, VolflowError

if TYPE_CHECKING:
    from volflow.config.pipeline import Pipeline
    from volflow.engine.executors.profile import OnStall, Profile
    from volflow.engine.job import Plan, RunResult


@click.command()
@click.argument("pipeline")
@click.option("--dry-run", is_flag=True, help="Check all, print the job scripts, start nothing.")
@options.watchdog
@options.workers
@options.selection
def run(
    pipeline: str,
    dry_run: bool,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    stall: float | None,
    on_stall: OnStall | None,
    **chosen: Any,
) -> None:
    """Run PIPELINE, or what is left of it.

    What an earlier run in the same folder has done is not done again.
    """
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout, stall, on_stall)
    planned = make_plan(pipeline, profile=profile, **chosen)
    if dry_run:
        rehearse(planned, profile)
    else:
        show(planned, profile)


@click.command()
@click.argument("address", metavar="RUN")
@click.option("--step", "only", help="This step alone.")
@options.watchdog
@options.workers
def retry(
    address: str,
    only: str | None,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    stall: float | None,
    on_stall: OnStall | None,
) -> None:
    """Run what is not done in RUN, failed blocks included.

    The pipeline is the one that RUN keeps, as it was when it was started last.
    """
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout, stall, on_stall)
    show(make_plan(kept_pipeline(address), profile=profile, only=only), profile)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("source", metavar="PIPELINE_OR_RUN")
@click.argument("step")
@click.argument("index", metavar="Z Y X", nargs=3, type=click.IntRange(0))
@click.option("--phase", "phase", default="", help="Which phase of the step; default: its first.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="As for run.")
@click.option("--bounds", metavar="Z0:Z1,Y0:Y1,X0:X1", help="As for run.")
@click.option("--pdb", "debugger", is_flag=True, help="Open a debugger where it raises.")
def block(
    source: str,
    step: str,
    index: tuple[int, int, int],
    phase: str,
    overrides: tuple[str, ...],
    bounds: str | None,
    debugger: bool,
) -> None:
    """Run one block alone, in this process.

    It is run whether it is done or not, and what it raises is shown in full.
    """
    from volflow.cli.terminal.formatting import duration, output
    from volflow.engine.api import make_plan
    from volflow.engine.driver import run_one

    if holds_run(source):
        planned = make_plan(kept_pipeline(source, overrides, bounds))
    else:
        planned = make_plan(source, overrides=overrides, bounds=bounds)
    try:
        planned.step(step)
    except KeyError as error:
        raise PlanError(*error.args) from error
    try:
        outcome = run_one(planned, step, index, phase)
    except (PlanError, RunHeld):
        raise
    except Exception:
        traceback.print_exc()
        if debugger:
            import pdb

            pdb.post_mortem(sys.exc_info()[2])
        sys.exit(BLOCKS_FAILED)
    what = "empty under the mask" if outcome.empty else "done"
    output().print(f"{what} in {duration(outcome.seconds)}; {outcome.voxels} voxels")


def rehearse(plan: Plan, profile: Profile) -> None:
    """Check a plan and its workers, and print what would be submitted."""
    from volflow.engine.executors.preflight import preflight, scripts

    preflight(plan, profile)
    jobs = scripts(plan, profile) if profile.kind == "slurm" else {}
    for name, script in jobs.items():
        click.echo(f"# pool {name}: {profile.pools[name].jobs} at a time\n{script}")
    if not jobs:
        click.echo(f"cluster '{profile.cluster}' has no job scripts; nothing was started")


def show(plan: Plan, profile: Profile) -> RunResult:
    """Execute a plan before the user's eyes; leaves with what `conclude` says."""
    from volflow.cli.terminal.formatting import errors, output
    from volflow.cli.terminal.progress import watching
    from volflow.engine.api import carry_out
    from volflow.engine.executors.preflight import logs

    console = output()
    console.print(f"run {plan.pipeline.run}", markup=False)
    with watching(plan, console) as observer:
        result = carry_out(plan, profile, observer)
    if not result.ok and (folder := logs(plan, profile)):
        errors().print(f"the workers' logs are in {folder}", markup=False)
    conclude(result)
    return result


def conclude(result: RunResult) -> None:
    """Print what became of a run; leaves with 3, 6 or 130 if it did not finish, 5 if unmet."""
    from volflow.cli.score import print_unmet
    from volflow.cli.terminal.formatting import errors, output, plural, print_failures

    console = output()
    if result.ok:
        already = sum(step.already for step in result.steps)
        blocks = sum(step.total for step in result.steps)
        before = f", {already:,} of them done before" if already else ""
        console.print(f"[green]done[/]: {plural(blocks, 'block')}{before}")
        console.print(f"{result.run}/report.html; or: volflow view {result.run}", markup=False)
        if result.unmet:
            print_unmet(result.unmet)
            sys.exit(UNMET)
        return
    stderr = errors()
    if result.failures:
        stderr.print()
        print_failures(stderr, result.run, result.failures)
        waiting = [step.name for step in result.steps if not step.started]
        if waiting:
            stderr.print(f"\nnot started: {', '.join(waiting)}", markup=False)
    if result.stalled:
        stderr.print(f"\n{result.stalled}; the run was ended", markup=False)
    elif result.interrupted:
        stderr.print("\ninterrupted; what is done stays done", markup=False)
    stderr.print(f"resume with: volflow retry {result.run}", markup=False)
    if result.stalled:
        sys.exit(STALLED)
    sys.exit(INTERRUPTED if result.interrupted else BLOCKS_FAILED)


@contextlib.contextmanager
def run_folder(kept: str | None) -> Iterator[str]:
    """A folder for a run of one step: the one given, or one that goes when all went well.

    Where blocks failed it stays, so that `volflow block` can run them alone.
    """
    if kept:
        yield kept
        return
    folder = tempfile.mkdtemp(prefix="volflow-")
    try:
        yield folder
    except SystemExit:
        raise
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def holds_run(address: str) -> bool:
    """Whether a run was started at the address."""
    from volflow.io.store import Store

    if os.path.isfile(address):
        return False
    with contextlib.suppress(VolflowError):
        return Store(address).read("pipeline.yaml") is not None
    return False


def kept_pipeline(
    address: str, overrides: tuple[str, ...] = (), bounds: str | None = None
) -> Pipeline:
    """The pipeline that a run keeps, as it was resolved when it was started.

    Raises
    ------
    PlanError
        If nothing was ever run there.
    """
    import yaml

    from volflow.config.pipeline import from_dict
    from volflow.io.store import Store

    text = Store(address).read("pipeline.yaml")
    if text is None:
        raise PlanError(f"{address} holds no run (it has no pipeline.yaml)")
    outline = Store(address).read_json("outline.json") or {}
    known = [*sys.path]  # where the stages of the user's own were imported from
    sys.path += [folder for folder in outline.get("search_path", []) if folder not in known]
    return from_dict(yaml.safe_load(text), (f"run={address}", *overrides), bounds)
