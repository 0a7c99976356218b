"""`run`: run a pipeline, or resume it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import completers, options

if TYPE_CHECKING:
    from volflow.engine.executors.profile import OnStall, Profile
    from volflow.engine.job import Plan


@click.command()
@click.argument("pipeline", shell_complete=completers.pipelines)
@click.option(
    "--dry-run", is_flag=True, help="Check everything and print the job scripts; start nothing."
)
@options.json_output
@options.watchdog
@options.workers
@options.selection
def run(
    pipeline: str,
    dry_run: bool,
    as_json: bool,
    cluster: str,
    workers: int | None,
    timeout: float | None,
    stall: float | None,
    on_stall: OnStall | None,
    **selection: Any,
) -> None:
    """Run PIPELINE, or resume it.

    Blocks that an earlier run in the same folder finished are not run again.
    """
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(
        cluster, workers=workers, timeout=timeout, stall=stall, on_stall=on_stall
    )
    planned = make_plan(pipeline, profile=profile, **selection)
    if dry_run:
        print_job_scripts(planned, profile, as_json)
    else:
        run_with_progress(planned, profile, as_json)


def print_job_scripts(plan: Plan, profile: Profile, as_json: bool) -> None:
    """Check a plan and its workers, and print the scripts that would be submitted."""
    from volflow.engine.executors.preflight import preflight
    from volflow.engine.executors.slurm.preflight import job_scripts

    preflight(plan, profile)
    jobs = job_scripts(plan, profile)
    if as_json:
        click.echo(json.dumps({"run": plan.pipeline.run, "job_scripts": jobs}, indent=1))
        return
    for name, script in jobs.items():
        click.echo(f"# pool {name}: {profile.pools[name].jobs} at a time\n{script}")
    if not jobs:
        click.echo(f"cluster '{profile.cluster}' has no job scripts; nothing was started")
