"""`schema`: the JSON schema of pipeline files."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of pipeline files.

    Editors use the schema to check and complete a file as it is typed.
    """
    from volflow.config.schema import schema

    click.echo(json.dumps(schema(), indent=1))
