"""`train`: a network from volumes with truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from volflow.errors import PlanError


@click.command()
@click.argument("config", metavar="CONFIG")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Put in place of what the file says: steps=500, tiles.batch=2, out=DIR.",
)
@click.option("--check", is_flag=True, help="Check the file and the volumes; train nothing.")
@click.option(
    "--export",
    metavar="FILE",
    help="Then copy the best checkpoint there, with half the bytes.",
)
def train(config: str, overrides: tuple[str, ...], check: bool, export: str | None) -> None:
    """Train a network as CONFIG says.

    CONFIG is a YAML file, or the name of one that travels with volflow (fib25, synth). A
    training that was interrupted goes on when it is started again; the best checkpoint by
    validation, best.safetensors, and a picture of it beside the truth lie in its folder `out`.
    """
    from volflow.config.bundled import find_bundled
    from volflow.train.config.training import load

    try:
        import torch  # noqa: F401  # the message below is better than what a module would say
    except ImportError as error:
        raise PlanError(f"training needs torch, which cannot be imported: {error}") from error
    from volflow.train.data.sources import refusals

    path = find_bundled(config, "pipelines/train", "training file")
    training = load(path, overrides)
    wrong = refusals(training)
    if wrong:
        raise PlanError(*(f"{path}: {text}" for text in wrong))
    from volflow.train.heads import header_of
    from volflow.train.supervised import started
    from volflow.train.supervised import train as run

    started(training, header_of(training), "cpu")  # so that a start that does not fit is told now
    if check:
        click.echo(f"{path}: {training.steps} steps, nothing wrong")
        return

    click.echo(f"training in {training.out}; interrupt it at will, it goes on when started again")
    best = run(training, Progress(training.steps, Path(training.out)))
    click.echo(f"best checkpoint: {best}")
    if export is not None:
        from torch import float16

        from volflow.models.checkpoint import export_checkpoint

        export_checkpoint(best, export, float16)
        click.echo(f"copied to {export}")


class Progress:
    """One line per validation, and one for the steps between that is written over."""

    def __init__(self, steps: int, folder: Path) -> None:
        self.steps, self.folder = steps, folder

    def __call__(self, row: dict[str, Any]) -> None:
        """Show what the training tells."""
        place = f"step {row['step']:>6}/{self.steps}  loss {row['loss']:.4f}"
        if "scores" in row:
            mark = "  best so far" if row["score"] == row["best"] else ""
            if len(row["scores"]) == 1 and "vi" in row:
                click.echo(
                    f"{place}  VI {row['vi']:.3f} = {row['vi_split']:.3f} split + "
                    f"{row['vi_merge']:.3f} merge at {row['threshold']:g}{mark}"
                )
                return
            each = "  ".join(f"{name} {error:.3f}" for name, error in row["scores"].items())
            click.echo(f"{place}  mean {row['score']:.3f}: {each}{mark}")
        elif row["step"] % 100 == 0:
            left = (self.steps - row["step"]) * row["seconds"] / 60
            click.echo(f"{place}  {row['seconds']:.2f} s a step, {left:.0f} min left")
