"""`invalidate`: a step and its dependents marked as not done."""

from __future__ import annotations

import click

from volflow.cli.terminal.formatting import output


@click.command()
@click.argument("address", metavar="RUN")
@click.argument("step")
@click.option("--yes", is_flag=True, help="Do not ask.")
def invalidate(address: str, step: str, yes: bool) -> None:
    """Have STEP of RUN done again, and all that depends on it.

    What was written stays until the next run writes it anew; only the markers go.
    """
    from volflow.engine import invalidate as engine

    names = engine.with_dependents(address, step)
    if not yes:
        what = f"the markers of {', '.join(names)} in {address}"
        click.confirm(f"Remove {what}?", abort=True, err=True)
    names = engine.invalidate(address, step)
    output().print(f"to be done again: {', '.join(names)}", markup=False)
    output().print(f"do it with: volflow retry {address}", markup=False)
