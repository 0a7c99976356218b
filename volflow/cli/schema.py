"""`schema`: the JSON schema of pipeline files."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of pipeline files.

    Editors use it to check and complete while one types.
    """
    from volflow.config.schema import schema

    click.echo(json.dumps(schema(), indent=1))
