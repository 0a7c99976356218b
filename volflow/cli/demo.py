"""`demo`: a synthetic volume, from its image to neurons, scored against its exact truth."""

from __future__ import annotations

from pathlib import Path

import click

from volflow.cli.terminal import options


@click.command()
@click.option(
    "--out",
    default="demo",
    show_default=True,
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the run.",
)
@click.option(
    "--size",
    default=192,
    show_default=True,
    metavar="VOXELS",
    type=click.IntRange(32),
    help="Side of the cubic volume in voxels of 10 nm.",
)
@options.local_workers
def demo(out: str, size: int, cluster: str, workers: int | None, timeout: float | None) -> None:
    """Make a synthetic volume, then predict, segment and score it."""
    from volflow.cli.scoring.printing import print_scores
    from volflow.cli.terminal.execution import run_with_progress
    from volflow.cli.terminal.formatting import output
    from volflow.engine.api import make_plan
    from volflow.engine.executors.profile import find_profile

    console = output()
    folder = Path(out).absolute()
    profile = find_profile(cluster, workers=workers, timeout=timeout)
    bounds = ",".join([f"0:{size}"] * 3)
    if not options.quiet():
        console.print(
            f"[bold]pipelines/demo.yaml[/]: {size}³ voxels of synthetic neuropil, from the image "
            "through a trained network to neurons"
        )
    planned = make_plan("demo", profile=profile, overrides=[f"run={folder}"], bounds=bounds)
    result = run_with_progress(planned, profile)
    console.print("\n[bold]scores against the exact truth[/]")
    print_scores(result.results)
    if options.quiet():
        return
    console.print("\nvolumes and picture")
    for name in ("em", "truth", "affinity", "segmentation"):
        console.print(f"  precomputed://{folder / name}", markup=False)
    console.print(f"  {folder / 'overview.png'}", markup=False)
    console.print(
        f"\nin Neuroglancer{_missing_viewer()}:\n  volflow view {out}\n"
        "a second run does nothing twice; with another threshold it runs the steps that depend on "
        "it:\n"
        f"  volflow run demo --set run={out} --bounds {bounds} --cluster local "
        "--set steps.agglomerate.threshold=0.5",
        markup=False,
        soft_wrap=True,
    )


def _missing_viewer() -> str:
    """The package that the viewer needs and this machine lacks, in brackets; empty if none."""
    from volflow.view.neuroglancer.viewer import missing_package

    missing = missing_package("neuroglancer")
    return f" (which needs {missing})" if missing else ""
