"""`invalidate`: a step and its dependents marked as not done."""

from __future__ import annotations

import click

from volflow.cli.terminal import completers, options
from volflow.cli.terminal.formatting import output


@click.command()
@click.argument("address", metavar="RUN", type=click.Path())
@click.argument("step", shell_complete=completers.step_names)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def invalidate(address: str, step: str, yes: bool) -> None:
    """Mark STEP of RUN and its dependents as not done.

    Dependents are all steps that read its outputs, directly or not. Only the markers of finished
    blocks are removed; volumes stay until the next run overwrites them.
    """
    from volflow.engine import invalidate as engine

    names = engine.with_dependents(address, step)
    if not yes:
        question = f"Remove the markers of {', '.join(names)} in {address}?"
        click.confirm(question, abort=True, err=True)
    names = engine.invalidate(address, step)
    output().print(f"marked as not done: {', '.join(names)}", markup=False)
    if not options.quiet():
        output().print(f"run them with: volflow retry {address}", markup=False)
