"""`retry`: the unfinished blocks of a run, failed ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volflow.cli.terminal import completers, options

if TYPE_CHECKING:
    from volflow.engine.executors.profile import OnStall


@click.command()
@click.argument("address", metavar="RUN", type=click.Path())
@click.option(
    "--step",
    "only",
    metavar="STEP",
    shell_complete=completers.step_names,
    help="Name of the only step to run.",
)
@options.json_output
@options.watchdog
@options.same_workers
@options.overrides
def retry(
    address: str,
    only: str | None,
    as_json: bool,
    cluster: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    timeout: float | None,
    stall: float | None,
    on_stall: OnStall | None,
) -> None:
    """Run the unfinished blocks of RUN, failed ones included.

    The pipeline is the one stored in RUN, as it was when the run was last started, and so are the
    workers, unless other ones are chosen. With --set a parameter is changed; the steps that it
    affects run again.
    """
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.run_folder import stored_pipeline
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile
    from volflow.engine.stored_profile import stored_profile

    pipeline = stored_pipeline(address, overrides)
    if cluster is None:
        profile = stored_profile(
            address, workers=workers, timeout=timeout, stall=stall, on_stall=on_stall
        )
    else:
        profile = find_profile(
            cluster, workers=workers, timeout=timeout, stall=stall, on_stall=on_stall
        )
    planned = make_plan(pipeline, profile=profile, only=only)
    run_with_progress(planned, profile, as_json)
