"""`block`: one block of a step alone, in this process."""

from __future__ import annotations

import sys
import traceback

import click

from volflow.cli import BLOCKS_FAILED
from volflow.cli.terminal import completers, options
from volflow.errors import PlanError, RunHeld


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("source", metavar="PIPELINE_OR_RUN", shell_complete=completers.pipelines)
@click.argument("step", shell_complete=completers.step_names)
@click.argument("index", metavar="Z Y X", nargs=3, type=click.IntRange(0))
@click.option(
    "--phase", default="", metavar="NAME", help="Phase of the step.", show_default="its first"
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="As for run.")
@click.option("--bounds", metavar=options.BOUNDS, help="As for run.")
@click.option("--pdb", "debugger", is_flag=True, help="Open a debugger where the block raises.")
def block(
    source: str,
    step: str,
    index: tuple[int, int, int],
    phase: str,
    overrides: tuple[str, ...],
    bounds: str | None,
    debugger: bool,
) -> None:
    """Run one block of STEP alone, in this process.

    Z Y X is the index of the block in the grid of the phase. The block runs even if it is done
    already, and an error is shown with its traceback.
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
    if not options.quiet():
        text = "empty under the mask" if outcome.empty else "done"
        output().print(f"{text} in {duration(outcome.seconds)}; {outcome.voxels} voxels")
