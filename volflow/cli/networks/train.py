"""`train`: train a network on volumes with ground truth."""

from __future__ import annotations

import click

from volflow.cli.networks.training_file import file_options, load_config, require_torch
from volflow.cli.networks.training_progress import TrainingProgress
from volflow.cli.terminal import completers, options


@click.command()
@click.argument("config", metavar="CONFIG", shell_complete=completers.trainings)
@file_options("tiles.batch=2")
@click.option(
    "--export",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Afterwards, write the best checkpoint to FILE in half precision.",
)
def train(config: str, overrides: tuple[str, ...], check: bool, export: str | None) -> None:
    """Train a network as configured in CONFIG.

    CONFIG is a YAML file or the name of a bundled one (fib25, tracker, ...); its key `kind` is the
    kind of network, one of voxels by default. A training that was
    interrupted resumes when it is started again. Its folder `out` gets the best checkpoint by
    validation, best.safetensors, and a picture that compares it with the truth.
    """
    from volflow.config.bundled import find_bundled

    require_torch("training")
    from volflow.train.kinds import kind_of

    path = find_bundled(config, "pipelines/train", "training file")
    kind = kind_of(path)
    training = load_config(path, overrides, kind.load, kind.problems)
    kind.check(training)
    if check:
        click.echo(f"{path}: {training.steps} steps, no problems")
        return
    if not options.quiet():
        click.echo(f"training in {training.out}; after an interruption, start it again to resume")
    best = kind.run(training, TrainingProgress(training.steps))
    click.echo(f"best checkpoint: {best}")
    if export is not None:
        kind.export(best, export)
        click.echo(f"exported to {export}")
