"""`pretrain`: an encoder from volumes without labels."""

from __future__ import annotations

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
    help="Put in place of what the file says: steps=500, crop=[16,96,96], out=DIR.",
)
@click.option("--check", is_flag=True, help="Check the file and the volumes; train nothing.")
def pretrain(config: str, overrides: tuple[str, ...], check: bool) -> None:
    """Pretrain a network as CONFIG says, without labels.

    CONFIG is a YAML file, or the name of one that travels with volflow (generalist). What was
    interrupted goes on when it is started again. The best encoder by validation,
    encoder.safetensors, lies in its folder `out`: a training begins with it where its file says
    `start_encoder`.
    """
    from volflow.config.bundled import find_bundled

    try:
        import torch  # noqa: F401  # the message below is better than what a module would say
    except ImportError as error:
        raise PlanError(f"pretraining needs torch, which cannot be imported: {error}") from error
    from volflow.train.config.pretraining import load_pretraining
    from volflow.train.data.images import image_refusals

    path = find_bundled(config, "pipelines/pretrain", "pretraining file")
    wanted = load_pretraining(path, overrides)
    wrong = image_refusals(wanted)
    if wrong:
        raise PlanError(*(f"{path}: {text}" for text in wrong))
    if check:
        click.echo(f"{path}: {wanted.steps} steps, nothing wrong")
        return
    from volflow.train.pretrain import pretrain as run

    click.echo(f"pretraining in {wanted.out}; interrupt it at will, it goes on when started again")

    def tell(row: dict[str, Any]) -> None:
        place = f"step {row['step']:>6}/{wanted.steps}  loss {row['loss']:.4f}"
        if "error" in row:
            mark = "  best so far" if row["error"] == row["best"] else ""
            click.echo(f"{place}  held out {row['error']:.4f}{mark}")
        elif row["step"] % 100 == 0:
            left = (wanted.steps - row["step"]) * row["seconds"] / 60
            click.echo(f"{place}  {row['seconds']:.2f} s a step, {left:.0f} min left")

    click.echo(f"encoder: {run(wanted, tell)}")
