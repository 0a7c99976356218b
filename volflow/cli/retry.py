"""`retry`: the unfinished blocks of a run, failed ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volflow.cli.terminal import options

if TYPE_CHECKING:
    from volflow.engine.executors.profile import OnStall


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
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.run_folder import stored_pipeline
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    profile = find_profile(cluster, workers, timeout, stall, on_stall)
    run_with_progress(make_plan(stored_pipeline(address), profile=profile, only=only), profile)
