"""`plan` and `schema`: what would be done, and what a pipeline file may say."""

from __future__ import annotations

import json
from typing import Any

import click

from volflow.cli import options


@click.command()
@click.argument("pipeline")
@click.option("--offline", is_flag=True, help="Open nothing: volumes are taken as declared.")
@options.selection
def plan(pipeline: str, offline: bool, **chosen: Any) -> None:
    """Check PIPELINE and tell what it would do.

    Nothing is started or written.
    """
    from volflow.cli.text import count, output, print_table, size
    from volflow.engine.api import make_plan

    planned = make_plan(pipeline, offline=offline, **chosen)
    console = output()
    nm = "x".join(f"{side:g}" for side in planned.resolution)
    shape = "x".join(count(side) for side in planned.bounds.shape)
    console.print(f"run     {planned.pipeline.run}", markup=False)
    console.print(f"bounds  {planned.bounds} ({shape} voxels of {nm} nm, z y x)\n", markup=False)
    rows = []
    for step in planned.chosen:
        sides = step.jobs[0].sweep.grid.shape if step.jobs else ()  # a pyramid of nothing
        block = "x".join(map(str, sides)) or "-"
        numbers = [count(len(step.jobs)), count(step.blocks), size(step.bytes_out)]
        rows.append([step.name, block, *numbers, size(max(step.memory.values(), default=0))])
    heads = ["step", "block ", "passes", "blocks", "bytes out", "memory per worker"]
    print_table(console, heads, rows)
    total, most = sum(s.blocks for s in planned.chosen), sum(s.bytes_out for s in planned.chosen)
    console.print(f"\n{count(total)} blocks, at most {size(most)} to be written", markup=False)
    for step in planned.chosen:
        for target in step.targets:
            if target.scale == 0:
                console.print(f"writes  {target.spec.path}", markup=False)


@click.command()
def schema() -> None:
    """Print the JSON schema of pipeline files.

    Editors use it to check and complete while one types.
    """
    from volflow.core.schema import schema

    click.echo(json.dumps(schema(), indent=1))
