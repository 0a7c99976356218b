"""`pipelines`: the bundled pipelines, what each reads and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from volflow.cli.terminal import options


@click.command()
@options.json_output
def pipelines(as_json: bool) -> None:
    """List the bundled pipelines, what each reads and writes.

    A pipeline runs by its name; each volume that it reads needs an address: `volflow run NAME --set
    volumes.VOLUME.path=ADDRESS`. To change more than a few values, copy its file (`path` in the
    output of --json).
    """
    from volflow.cli.terminal.formatting import output
    from volflow.config.bundled import bundled

    documents = [describe_pipeline(name, path) for name, path in bundled("pipelines").items()]
    if as_json:
        click.echo(json.dumps(documents, indent=1))
        return
    console = output()
    for document in documents:
        console.print(f"[bold]{document['name']}[/]  {document['summary']}", soft_wrap=True)
        reads = ", ".join(document["reads"]) or "nothing"
        writes = ", ".join(document["writes"])
        console.print(f"    reads {reads}; writes {writes}", markup=False, soft_wrap=True)


def describe_pipeline(name: str, path: Path) -> dict[str, Any]:
    """Name, path, summary, volumes read, volumes written and steps of a pipeline file.

    Returns
    -------
    dict
        `name`, `path`, `summary` (one sentence), and the lists `reads` and `writes` (names of
        volumes) and `steps` (names of steps).
    """
    from volflow.config.pipeline import read
    from volflow.config.problems import Problems
    from volflow.config.wiring import wire
    from volflow.core.stage import Layer
    from volflow.errors import PlanError

    draft = read(path)
    if draft.pipeline is None:
        raise PlanError(*draft.problems)
    wiring = Problems(draft.pipeline.where).collect(wire(draft.pipeline))
    inputs = {volume for step in wiring.steps for volume in step.inputs.values()}
    inputs -= {*wiring.writers}
    return {
        "name": name,
        "path": str(path),
        "summary": summary(path.read_text(encoding="utf-8")),
        "reads": [
            volume for volume in draft.pipeline.volumes if volume in inputs - {*wiring.writers}
        ],
        "writes": [
            volume
            for volume, (step, output) in wiring.writers.items()
            if isinstance(step.declared(output), Layer)
        ],
        "steps": [step.name for step in wiring.steps],
    }


def summary(text: str) -> str:
    """The first sentence of the comment at the head of a file."""
    lines = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    sentence = " ".join(lines).partition(". ")[0]
    return sentence.rstrip(".:") + "."
