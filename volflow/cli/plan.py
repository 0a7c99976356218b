"""`plan`: a pipeline checked, and what its run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import options

if TYPE_CHECKING:
    from rich.console import Console

    from volflow.engine.job import Plan


@click.command()
@click.argument("pipeline")
@click.option("--offline", is_flag=True, help="Open nothing: volumes are taken as declared.")
@click.option("--trial", type=click.IntRange(1), help="Do so many real blocks of each step first.")
@click.option("--workers", type=click.IntRange(1), help="For --trial: hours with so many workers.")
@options.selection
def plan(
    pipeline: str, offline: bool, trial: int | None, workers: int | None, **chosen: Any
) -> None:
    """Check PIPELINE and tell what it would do.

    Nothing is started or written, but for --trial: it does a few blocks from the middle of the
    volume in a scratch folder, and predicts by them the work, storage and memory of the whole.
    """
    from volflow.cli.terminal.formatting import count, output, print_table, size
    from volflow.engine.api import make_plan
    from volflow.engine.estimate.scaling import largest

    planned = make_plan(pipeline, offline=offline, **chosen)
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
    heads = ["step", "block ", "passes", "blocks", "bytes out", "memory per worker"]
    print_table(console, heads, rows)
    total, most = sum(s.blocks for s in planned.chosen), sum(s.bytes_out for s in planned.chosen)
    console.print(f"\n{count(total)} blocks, at most {size(most)} to be written", markup=False)
    for pool, step_name, memory in largest(planned):
        text = f"pool {pool}: a worker is to have {size(memory)}, for {step_name}"
        console.print(text, markup=False)
    for step in planned.chosen:
        for target in step.targets:
            if target.scale == 0:
                console.print(f"writes  {target.spec.path}", markup=False)
    if trial is not None and offline:
        raise click.UsageError("--trial reads the volumes, so it does not go with --offline")
    if trial is not None:
        _print_trial(console, planned, trial, workers)


def _print_trial(console: Console, planned: Plan, blocks: int, workers: int | None) -> None:
    """What the run will take, by a few of its blocks."""
    from volflow.cli.terminal.formatting import count, duration, errors, print_table, size
    from volflow.engine.estimate.trial import hours, run_trial
    from volflow.engine.executors.base import MachineResources

    say = errors()
    found = run_trial(planned, blocks, lambda text: say.print(text, markup=False, style="dim"))
    console.print()
    heads = ["step", "pool ", "tried", "work", "processor", "stored", "memory", "at most"]
    rows = [
        [
            *(step.name, step.pool, count(step.tried), duration(step.work), duration(step.cpu)),
            *(size(step.stored), size(step.memory), size(max(step.most, step.memory))),
        ]
        for step in found
    ]
    print_table(console, heads, rows)
    console.print()
    for pool in sorted({step.pool for step in found}):
        mine = [step for step in found if step.pool == pool]
        work, stored = hours(mine, 1), sum(step.stored for step in mine)
        unit = "GPU-hours" if pool == "gpu" else "hours of a worker"
        console.print(f"pool {pool}: {work:,.2f} {unit}, {size(stored)} stored", markup=False)
    several = workers or MachineResources.here().cores
    text = f"{hours(found, several):,.2f} hours with {several} workers, as busy as this machine is"
    console.print(text, markup=False)
    for step in found:
        if step.unknown:
            phases = ", ".join(step.unknown)
            console.print(f"not in so few blocks: {step.name}: {phases}", markup=False)
