"""`pretrain`: pretrain an encoder on volumes without labels."""

from __future__ import annotations

import click

from volflow.cli.networks.training_file import file_options, load_config, require_torch
from volflow.cli.networks.training_progress import TrainingProgress
from volflow.cli.terminal import completers, options


@click.command()
@click.argument("config", metavar="CONFIG", shell_complete=completers.pretrainings)
@file_options("crop=[16,96,96]")
def pretrain(config: str, overrides: tuple[str, ...], check: bool) -> None:
    """Pretrain an encoder as configured in CONFIG, without labels.

    CONFIG is a YAML file or the name of a bundled one (segneuron). A pretraining that was
    interrupted resumes when it is started again. Its folder `out` gets the best encoder by
    validation, encoder.safetensors; a training starts from it with the key `start_encoder`.
    """
    from volflow.config.bundled import find_bundled

    require_torch("pretraining")
    from volflow.train.config.pretraining import load_pretraining
    from volflow.train.data.images import image_problems
    from volflow.train.pretrain import pretrain as run

    path = find_bundled(config, "pipelines/pretrain", "pretraining file")
    pretraining = load_config(path, overrides, load_pretraining, image_problems)
    if check:
        click.echo(f"{path}: {pretraining.steps} steps, no problems")
        return
    if not options.quiet():
        folder = pretraining.out
        click.echo(f"pretraining in {folder}; after an interruption, start it again to resume")
    click.echo(f"encoder: {run(pretraining, TrainingProgress(pretraining.steps))}")
