"""`schema`: the JSON schemas of the YAML files."""

from __future__ import annotations

import json
from typing import Any

import click

KINDS = ("pipeline", "profile", "training", "tracker", "iicats", "pretraining")


@click.command()
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="pipeline",
    show_default=True,
    help="Kind of file: a pipeline, a cluster profile, a training of voxels, of the tracker or of "
    "the few-shot segmenter, or a pretraining.",
)
def schema(kind: str) -> None:
    """Print the JSON schema of a kind of YAML file.

    Editors use the schema to check and complete a file as it is typed.
    """
    click.echo(json.dumps(_schema(kind), indent=1))


def _schema(kind: str) -> dict[str, Any]:
    """The schema of a kind of file; only what it needs is imported."""
    from volflow.config.schema import file_schema, schema

    if kind == "profile":
        from volflow.engine.executors.profile import Profile

        return file_schema(Profile, "volflow cluster profile")
    if kind == "training":
        from volflow.train.config.training import Training

        return file_schema(Training, "volflow training")
    if kind == "tracker":
        from volflow.train.config.tracker import TrackerTraining

        return file_schema(TrackerTraining, "volflow training of the tracker")
    if kind == "iicats":
        from volflow.train.config.sequences import SequenceTraining

        return file_schema(SequenceTraining, "volflow training of the few-shot segmenter")
    if kind == "pretraining":
        from volflow.train.config.pretraining import Pretraining

        return file_schema(Pretraining, "volflow pretraining")
    return schema()
