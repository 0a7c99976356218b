"""`status`: the progress of a run, and why blocks failed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from volflow.cli.terminal.formatting import (
    count,
    duration,
    errors,
    output,
    plural,
    print_failures,
    print_table,
)

if TYPE_CHECKING:
    from rich.console import Console

    from volflow.engine.monitor.status import RunStatus, StepStatus

EVERY = 2.0  # seconds between two looks
QUIET = 60.0  # seconds without anything finished that are worth a word


@click.command()
@click.argument("address", metavar="RUN")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="For programs; with --watch a line each.")
def status(address: str, watch: bool, as_json: bool) -> None:
    """Tell where RUN stands, and why blocks failed.

    Reads what lies in RUN, so it may be asked while the run goes on, from anywhere. The numbers
    of a step add up to its blocks: done, failed, running (handed out to workers), blocked (behind
    blocks that failed) and left.
    """
    from volflow.engine.monitor import status as standing

    console = output()
    while True:
        found = standing.status(address)
        if as_json:
            click.echo(json.dumps(standing.as_json(found), indent=None if watch else 1))
        else:
            if watch and console.is_terminal:
                console.clear()
            _print(console, found)
        if not watch or found.holder is None:
            return
        time.sleep(EVERY)
        if not as_json and not console.is_terminal:
            console.print()


def _print(console: Console, found: RunStatus) -> None:
    heads = ["step", "blocks", "done", "failed", "running", "blocked", "left", "work", "causes "]
    print_table(console, heads, [_row(step) for step in found.steps])
    if found.failures:
        console.print()
        print_failures(console, found.run, found.failures)
    if found.holder is not None:
        console.print()
        _print_driver(console, found)
    elif not found.finished:
        console.print(f"\nresume with: volflow retry {found.run}", markup=False)


def _row(step: StepStatus) -> list[str]:
    numbers = (step.total, step.done, step.failed, step.running, step.blocked, step.left)
    causes = ", ".join(f"{number} {reason}" for reason, number in step.causes.items())
    return [step.name, *map(count, numbers), duration(step.seconds), causes]


def _print_driver(console: Console, found: RunStatus) -> None:
    """Who drives the run, and how fast it goes."""
    holder = found.holder or {}
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    console.print(f"held by {who}, since {holder.get('started', '?')}", markup=False)
    if not found.step:
        return
    parts = [f"{found.step}: {plural(found.workers, 'worker')}" if found.workers else found.step]
    if found.blocks_per_second:
        parts.append(f"{found.blocks_per_second:.3g} blocks/s")
    if found.seconds_left is not None:
        parts.append(f"{duration(found.seconds_left)} left")
    console.print(", ".join(parts), markup=False)
    if found.quiet > QUIET:
        errors().print(f"nothing was finished for {duration(found.quiet)}", markup=False)
