"""`demo`: a synthetic volume made, segmented and scored against its exact truth."""

from __future__ import annotations

from pathlib import Path

import click

from volflow.cli import options


@click.command()
@click.option("--out", default="demo", show_default=True, metavar="DIR", help="Where it is put.")
@click.option("--size", default=192, show_default=True, type=click.IntRange(32), help="In voxels.")
@options.local_workers
def demo(out: str, size: int, cluster: str, workers: int | None, timeout: float | None) -> None:
    """Make, segment and score a synthetic volume."""
    from volflow.cli.runs import show
    from volflow.cli.scores import pipeline, print_scores
    from volflow.cli.text import output
    from volflow.engine.api import make_plan
    from volflow.engine.profile import find_profile

    console = output()
    folder = Path(out).absolute()
    profile = find_profile(cluster, workers, timeout)
    made, segmented = folder / "synth", folder / "segment"
    box = ",".join([f"0:{size}"] * 3)

    console.print(f"[bold]1  a volume of {size}³ synthetic neuropil[/], with affinities and truth")
    show(make_plan("synth", profile=profile, overrides=[f"run={made}"], bounds=box), profile)
    console.print("\n[bold]2  pipelines/segment.yaml[/], from the affinities to neurons")
    wired = [f"run={segmented}", f"volumes.affinity.path=precomputed://{made}/affinity"]
    show(make_plan("segment", profile=profile, overrides=wired), profile)
    console.print("\n[bold]3  against the truth[/], which is exact")
    addresses = [f"precomputed://{segmented}/segmentation", f"precomputed://{made}/truth"]
    judged = make_plan(pipeline(str(folder / "score"), *addresses), profile=profile)
    scores = show(judged, profile).results["score"]
    print_scores(scores)
    console.print("\nwhat there is to look at")
    for layer in (made / "em", made / "truth", segmented / "segmentation"):
        console.print(f"  precomputed://{layer}", markup=False)
    console.print(
        "\nrun it again and nothing is done twice; another threshold redoes what depends on it:\n"
        f"  volflow run segment --set run={segmented} --set {wired[1]} "
        "--set steps.agglomerate.threshold=0.5",
        markup=False,
        soft_wrap=True,
    )
