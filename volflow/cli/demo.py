"""`demo`: a synthetic volume, from its image to neurons, scored against its exact truth."""

from __future__ import annotations

from pathlib import Path

import click

from volflow.cli.terminal import options


@click.command()
@click.option("--out", default="demo", show_default=True, metavar="DIR", help="Where it is put.")
@click.option("--size", default=192, show_default=True, type=click.IntRange(32), help="In voxels.")
@options.local_workers
def demo(out: str, size: int, cluster: str, workers: int | None, timeout: float | None) -> None:
    """Make a synthetic volume, predict, segment and score it."""
    from volflow.cli.score import print_scores
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.formatting import output
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    console = output()
    folder = Path(out).absolute()
    profile = find_profile(cluster, workers, timeout)
    box = ",".join([f"0:{size}"] * 3)
    console.print(
        f"[bold]pipelines/demo.yaml[/]: {size}³ voxels of synthetic neuropil, from the image "
        "through a trained network to neurons"
    )
    planned = make_plan("demo", profile=profile, overrides=[f"run={folder}"], bounds=box)
    result = run_with_progress(planned, profile)
    console.print("\n[bold]against the truth[/], which is exact")
    print_scores(result.results)
    console.print("\nwhat there is to look at")
    for name in ("em", "truth", "affinity", "segmentation"):
        console.print(f"  precomputed://{folder / name}", markup=False)
    console.print(f"  {folder / 'overview.png'}", markup=False)
    console.print(
        f"\nin Neuroglancer{_lacking_viewer()}:\n  volflow view {out}\n"
        "run it again and nothing is done twice; another threshold redoes what depends on it:\n"
        f"  volflow run demo --set run={out} --bounds {box} --cluster local "
        "--set steps.agglomerate.threshold=0.5",
        markup=False,
        soft_wrap=True,
    )


def _lacking_viewer() -> str:
    """What has to be installed before the demo can be looked at, in brackets; empty if nothing."""
    from volflow.view.neuroglancer.viewer import missing_package

    lacking = missing_package("neuroglancer")
    return f" (which needs {lacking})" if lacking else ""
