"""`run`: a pipeline, or what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import options

if TYPE_CHECKING:
    from volflow.engine.executors.profile import OnStall, Profile
    from volflow.engine.job import Plan


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
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout, stall, on_stall)
    planned = make_plan(pipeline, profile=profile, **chosen)
    if dry_run:
        print_job_scripts(planned, profile)
    else:
        run_with_progress(planned, profile)


def print_job_scripts(plan: Plan, profile: Profile) -> None:
    """Check a plan and its workers, and print what would be submitted."""
    from volflow.engine.executors.preflight import preflight, scripts

    preflight(plan, profile)
    jobs = scripts(plan, profile) if profile.kind == "slurm" else {}
    for name, script in jobs.items():
        click.echo(f"# pool {name}: {profile.pools[name].jobs} at a time\n{script}")
    if not jobs:
        click.echo(f"cluster '{profile.cluster}' has no job scripts; nothing was started")
