"""`status`: the progress of a run, and its failed blocks."""

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
    running_block_text,
)

if TYPE_CHECKING:
    from rich.console import Console

    from volflow.engine.monitor.status import RunStatus, StepStatus

EVERY = 2.0  # seconds between two readings with --watch
LONG_BLOCK = 10.0  # seconds after which a block that is being computed is listed
LISTED = 5  # blocks
QUIET = 60.0  # seconds without a finished block after which a line reports them


@click.command()
@click.argument("address", metavar="RUN", type=click.Path())
@click.option("--watch", is_flag=True, help="Read again every two seconds until the run ends.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; with --watch one document per line."
)
def status(address: str, watch: bool, as_json: bool) -> None:
    """Print the progress of RUN and its failed blocks.

    Reads only what is stored in RUN, so it works from any machine and while the run proceeds. The
    blocks of a step are done, failed, running (assigned to workers), blocked (waiting for blocks
    that failed) or left.
    """
    from volflow.engine.monitor import status as monitor

    console = output()
    while True:
        state = monitor.status(address)
        if as_json:
            click.echo(json.dumps(monitor.as_json(state), indent=None if watch else 1))
        else:
            if watch and console.is_terminal:
                console.clear()
            _print(console, state)
        if not watch or state.holder is None:
            return
        time.sleep(EVERY)
        if not as_json and not console.is_terminal:
            console.print()


def _print(console: Console, state: RunStatus) -> None:
    heads = ["step", "blocks", "done", "failed", "running", "blocked", "left", "work", "causes "]
    print_table(console, heads, [_row(step) for step in state.steps])
    if state.failures:
        console.print()
        print_failures(console, state.run, state.failures)
    if state.holder is not None:
        console.print()
        _print_driver(console, state)
    elif not state.finished:
        console.print(f"\nresume with: volflow retry {state.run}", markup=False)


def _row(step: StepStatus) -> list[str]:
    numbers = (step.total, step.done, step.failed, step.running, step.blocked, step.left)
    causes = ", ".join(f"{number} {reason}" for reason, number in step.causes.items())
    return [step.name, *map(count, numbers), duration(step.seconds), causes]


def _print_driver(console: Console, state: RunStatus) -> None:
    """Print the process that drives the run, its workers and its speed."""
    holder = state.holder or {}
    process = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    console.print(f"held by {process}, since {holder.get('started', '?')}", markup=False)
    if not state.step:
        return
    parts = [f"{state.step}: {plural(state.workers, 'worker')}" if state.workers else state.step]
    if state.blocks_per_second:
        parts.append(f"{state.blocks_per_second:.3g} blocks/s")
    if state.seconds_left is not None:
        parts.append(f"{duration(state.seconds_left)} left")
    console.print(", ".join(parts), markup=False)
    for block in state.blocks[:LISTED]:
        if block.seconds > LONG_BLOCK:
            text = running_block_text(
                block.step,
                block.index,
                block.seconds,
                worker=block.worker,
                memory=block.memory,
                parts=block.parts,
            )
            console.print(text, markup=False)
    if state.quiet > QUIET:
        errors().print(f"no block finished for {duration(state.quiet)}", markup=False)
