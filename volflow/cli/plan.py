"""`plan`: check a pipeline, and show what its run would do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import completers, options

if TYPE_CHECKING:
    from volflow.engine.estimate.scaling import StepEstimate
    from volflow.engine.job import Plan


@click.command()
@click.argument("pipeline", shell_complete=completers.pipelines)
@click.option("--offline", is_flag=True, help="Open no volume: each is taken as declared.")
@click.option(
    "--trial",
    metavar="N",
    type=click.IntRange(1),
    help="Run N blocks of each step in a scratch folder and estimate the whole run.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    help="For --trial: estimate the hours with N workers.",
    show_default="one per core",
)
@options.json_output
@options.selection
def plan(
    pipeline: str,
    offline: bool,
    trial: int | None,
    workers: int | None,
    as_json: bool,
    **selection: Any,
) -> None:
    """Check PIPELINE and show what it would do.

    Nothing is started or written. Only --trial runs a few blocks, from the middle of the volume in
    a scratch folder, and estimates work, storage and memory of the whole run from them.
    """
    from volflow.cli.terminal.formatting import errors
    from volflow.engine.api import make_plan
    from volflow.engine.estimate.trial import run_trial
    from volflow.engine.executors.base import MachineResources

    if trial is not None and offline:
        raise click.UsageError("--trial reads the volumes, so it excludes --offline")
    planned = make_plan(pipeline, offline=offline, **selection)
    if not as_json:
        _print_plan(planned)
    estimates: list[StepEstimate] | None = None
    several = workers or MachineResources.here().cores
    if trial is not None:
        console = errors()

        def note(text: str) -> None:
            if not options.quiet():
                console.print(text, markup=False, style="dim")

        estimates = run_trial(planned, trial, note)
    if as_json:
        click.echo(json.dumps(plan_document(planned, estimates, several), indent=1))
    elif estimates is not None:
        _print_estimates(estimates, several)


def plan_document(
    planned: Plan, estimates: list[StepEstimate] | None, workers: int
) -> dict[str, Any]:
    """A plan as JSON.

    Returns
    -------
    dict
        `ok` (true), `run`, `bounds`, `resolution` (nm, z y x), `blocks`, `bytes_out` (upper
        limit), `memory_by_pool` (bytes per worker), and `steps`: `name`, `use`, `pool`, `block`
        (voxels, z y x; null without phases), `phases`, `blocks`, `bytes_out`, `memory` (bytes per
        worker), `writes` (addresses), `in_voxels` (by parameter that was given in units, its value
        in voxels); `downsampled` (by input with `downsample`, the factors z y x); `warnings`
        (sentences about the inputs). With a trial
        `estimate`: `workers`, `hours`, and `steps`: `name`, `pool`, `blocks_run`, `work` and
        `cpu` (seconds of all workers), `stored`, `memory` (expected) and `memory_limit` (bytes),
        `unknown` (phases that did not run).
    """
    from volflow.engine.estimate.scaling import largest
    from volflow.engine.estimate.trial import hours

    names = {step.name: step.use for step in planned.pipeline.steps if step.name}
    document: dict[str, Any] = {
        "ok": True,
        "run": planned.pipeline.run,
        "bounds": str(planned.bounds),
        "resolution": list(planned.resolution),
        "blocks": sum(step.blocks for step in planned.chosen),
        "bytes_out": sum(step.bytes_out for step in planned.chosen),
        "memory_by_pool": {pool: memory for pool, _, memory in largest(planned)},
        "steps": [
            {
                "name": step.name,
                "use": names.get(step.name, step.name),
                "pool": step.pool,
                "block": list(step.jobs[0].phase.grid.shape) if step.jobs else None,
                "phases": len(step.jobs),
                "blocks": step.blocks,
                "bytes_out": step.bytes_out,
                "memory": max(step.memory.values(), default=0),
                "writes": [target.spec.path for target in step.targets if target.scale == 0],
                "in_voxels": {
                    each.parameter: each.value
                    for each in step.resolved
                    if not isinstance(each.value, str)
                },
                "by_planes": {
                    each.parameter: each.value
                    for each in step.resolved
                    if isinstance(each.value, str)
                },
            }
            for step in planned.chosen
        ],
        "downsampled": {each.volume: list(each.factors) for each in planned.downsampled},
        "warnings": list(planned.warnings),
    }
    if estimates is not None:
        document["estimate"] = {
            "workers": workers,
            "hours": hours(estimates, workers),
            "steps": [
                {
                    "name": step.name,
                    "pool": step.pool,
                    "blocks_run": step.tried,
                    "work": step.work,
                    "cpu": step.cpu,
                    "stored": step.stored,
                    "memory": step.memory,
                    "memory_limit": max(step.most, step.memory),
                    "unknown": list(step.unknown),
                }
                for step in estimates
            ],
        }
    return document


def _print_plan(planned: Plan) -> None:
    from volflow.cli.terminal.formatting import (
        count,
        downsampling_lines,
        output,
        print_table,
        print_warnings,
        size,
    )
    from volflow.engine.estimate.scaling import largest

    console = output()
    nm = "x".join(f"{side:g}" for side in planned.resolution)
    shape = "x".join(count(side) for side in planned.bounds.shape)
    console.print(f"run     {planned.pipeline.run}", markup=False)
    console.print(f"bounds  {planned.bounds} ({shape} voxels of {nm} nm, z y x)\n", markup=False)
    rows = []
    for step in planned.chosen:
        sides = step.jobs[0].phase.grid.shape if step.jobs else ()  # a pyramid of nothing
        block = "x".join(map(str, sides)) or "-"
        numbers = [count(len(step.jobs)), count(step.blocks), size(step.bytes_out)]
        rows.append([step.name, block, *numbers, size(max(step.memory.values(), default=0))])
    heads = ["step", "block ", "phases", "blocks", "bytes out", "memory per worker"]
    print_table(console, heads, rows)
    blocks = sum(step.blocks for step in planned.chosen)
    written = sum(step.bytes_out for step in planned.chosen)
    console.print(f"\n{count(blocks)} blocks; writes at most {size(written)}", markup=False)
    for pool, step_name, memory in largest(planned):
        text = f"pool {pool}: a worker needs {size(memory)}, for {step_name}"
        console.print(text, markup=False)
    for step in planned.chosen:
        for target in step.targets:
            if target.scale == 0:
                console.print(f"writes  {target.spec.path}", markup=False)
    for step in planned.chosen:
        for parameter, text, value in step.resolved:
            line = f"{step.name}.{parameter}: {text} is {_shown(value)}"
            head = "planes" if isinstance(value, str) else "units "
            console.print(f"{head}  {line}", markup=False, soft_wrap=True)
    for line in downsampling_lines(planned):
        console.print(line, markup=False, soft_wrap=True)
    print_warnings(planned.warnings)


def _shown(value: int | float | tuple[int, ...] | str) -> str:
    """A value that follows from the volume, with its unit."""
    if isinstance(value, str):
        return value
    sides = value if isinstance(value, tuple) else (value,)
    return " x ".join(f"{side:,}" for side in sides) + " voxels"


def _print_estimates(estimates: list[StepEstimate], workers: int) -> None:
    """Print what the run will take, as estimated from a few of its blocks."""
    from volflow.cli.terminal.formatting import count, duration, output, print_table, size
    from volflow.engine.estimate.trial import hours

    console = output()
    console.print()
    heads = ["step", "pool ", "blocks run", "work", "processor", "stored", "memory", "at most"]
    rows = [
        [
            *(step.name, step.pool, count(step.tried), duration(step.work), duration(step.cpu)),
            *(size(step.stored), size(step.memory), size(max(step.most, step.memory))),
        ]
        for step in estimates
    ]
    print_table(console, heads, rows)
    console.print()
    for pool in sorted({step.pool for step in estimates}):
        steps = [step for step in estimates if step.pool == pool]
        work, stored = hours(steps, 1), sum(step.stored for step in steps)
        unit = "GPU-hours" if pool == "gpu" else "worker-hours"
        console.print(f"pool {pool}: {work:,.2f} {unit}, {size(stored)} stored", markup=False)
    text = f"{hours(estimates, workers):,.2f} hours with {workers} workers at the present load"
    console.print(text, markup=False)
    for step in estimates:
        if step.unknown:
            phases = ", ".join(step.unknown)
            console.print(f"not estimated from so few blocks: {step.name}: {phases}", markup=False)
