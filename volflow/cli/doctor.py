"""`doctor`: whether volflow can work on this machine, and the remedy where it cannot."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from volflow.cli.terminal import options

if TYPE_CHECKING:
    from volflow.cli.checks.finding import Finding

MARKS = {
    "ok": "[green]✓[/]",
    "none": "[dim]·[/]",
    "warning": "[yellow]![/]",
    "broken": "[red]✗[/]",
}


@click.command()
@options.json_output
def doctor(as_json: bool) -> None:
    """Check that volflow can work on this machine.

    Packages, stages, memory, disk, GPU, Slurm, volume formats and the viewer. Exits with 1 if
    something is broken.
    """
    from volflow.cli.checks import findings

    results = findings()
    broken = sum(finding.verdict == "broken" for finding in results)
    if as_json:
        document = {"ok": not broken, "findings": [finding._asdict() for finding in results]}
        click.echo(json.dumps(document, indent=1))
    else:
        _print(results, broken)
    if broken:
        sys.exit(1)


def _print(results: list[Finding], broken: int) -> None:
    from rich.markup import escape

    from volflow.cli.terminal.formatting import output

    console = output()
    for finding in results:
        if options.quiet() and finding.verdict in ("ok", "none"):
            continue
        console.print(f"{MARKS[finding.verdict]} {finding.subject:<12} {escape(finding.text)}")
        if finding.remedy:
            console.print(f"  {'':<12} {escape(finding.remedy)}", style="yellow")
    if broken:
        console.print(f"\n[red]{broken} broken[/]: volflow will not work well here")
    elif not options.quiet():
        console.print("\n[green]all well[/]")
