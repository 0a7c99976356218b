"""`demo`: a synthetic volume, from its image to neurons, scored against its exact truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    document, missing = available_steps()
    if missing and not options.quiet():
        console.print(f"without neurons in 3D: {'; '.join(missing)}", markup=False)
    planned = make_plan(document, profile=profile, overrides=[f"run={folder}"], bounds=bounds)
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


def available_steps() -> tuple[dict[str, Any], list[str]]:
    """The bundled pipeline without the steps that need a missing package, and what is missing."""
    from volflow.config.bundled import find_bundled
    from volflow.config.file import read_yaml
    from volflow.shape.marching_cubes import missing_library as for_meshes
    from volflow.shape.skeletonize import missing_library as for_skeletons

    missing = {"meshes": for_meshes(), "skeletons": for_skeletons()}
    text = find_bundled("demo", "pipelines", "pipeline").read_text("utf-8")
    document: dict[str, Any] = dict(read_yaml(text).data)
    document["steps"] = [step for step in document["steps"] if not missing.get(step["use"])]
    return document, [sentence for sentence in missing.values() if sentence]


def _missing_viewer() -> str:
    """The package that the viewer needs and this machine lacks, in brackets; empty if none."""
    from volflow.view.neuroglancer.viewer import missing_package

    missing = missing_package("neuroglancer")
    return f" (which needs {missing})" if missing else ""
