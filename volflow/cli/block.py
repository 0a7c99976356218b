"""`block`: one block of a step alone, in this process."""

from __future__ import annotations

import sys
import traceback

import click

from volflow.cli import BLOCKS_FAILED
from volflow.errors import PlanError, RunHeld


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
    from volflow.cli.terminal.run_folder import holds_run, stored_pipeline
    from volflow.engine.api import make_plan
    from volflow.engine.driver import run_one

    if holds_run(source):
        planned = make_plan(stored_pipeline(source, overrides, bounds))
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
