"""`models`: the bundled networks with their licences and scores, or one network in full."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volflow.cli.terminal import completers, options
from volflow.cli.terminal.visible import visible

if TYPE_CHECKING:
    from volflow.checkpoints.header import Header
    from volflow.checkpoints.model_card import Card
    from volflow.checkpoints.section_header import SectionHeader

SHORT = 60  # characters of a licence or a score in the table; NAME prints them in full

SECTION_HEADS = {"iicats": "next mask", "quasidense": "boxes"}
"""Predictions of the networks of sections."""


@dataclass(frozen=True)
class Model:
    """A checkpoint, its header and its card."""

    name: str
    path: Path
    header: Header | SectionHeader
    card: Card | None

    @property
    def heads(self) -> dict[str, int]:
        """Number of channels by name of what the network predicts."""
        from volflow.checkpoints.header import Header

        if isinstance(self.header, Header):
            return {name: head.channels for name, (head, _) in self.header.named.items()}
        return {SECTION_HEADS.get(self.header.network, self.header.network): 1}

    def document(self) -> dict[str, Any]:
        """The network as JSON.

        Returns
        -------
        dict
            `name`, `path`, `bytes`, `heads` (channels by name), `non_commercial` (null without a
            card), `licence` and `score` (empty where the card has none), `header` (all its
            fields) and `card` (its text, null without one).
        """
        card = self.card
        return {
            "name": self.name,
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "heads": self.heads,
            "non_commercial": card.non_commercial if card else None,
            "licence": card.licence if card else "",
            "score": card.score if card else "",
            "header": self.header.model_dump(mode="json"),
            "card": card.text if card else None,
        }


@click.command()
@click.argument("name", required=False, shell_complete=completers.networks)
@options.json_output
def models(name: str | None, as_json: bool) -> None:
    """List the bundled networks, or print the card of NAME.

    NAME is a bundled network or the path of a checkpoint; its card and header are printed.
    Non-commercial licences and missing cards are marked.
    """
    if name is not None:
        model = _find(name)
        if as_json:
            click.echo(json.dumps(model.document(), indent=1))
        else:
            _print_model(model)
        return
    readable, problems = _bundled()
    if as_json:
        click.echo(json.dumps([model.document() for model in readable], indent=1))
    else:
        _print_list(readable)
    if problems:
        from volflow.cli import BAD_STORE, exit_with_error

        exit_with_error("\n".join(problems), BAD_STORE)


def _bundled() -> tuple[list[Model], list[str]]:
    """The bundled networks that can be read, and the problems of the others."""
    from volflow.checkpoints.find import bundled_networks, bundled_section_networks

    readable, problems = [], []
    for name, path in {**bundled_networks(), **bundled_section_networks()}.items():
        try:
            readable.append(_read(name, path))
        except Exception as error:  # a damaged one hides no other
            problems.append(str(error))
    return readable, problems


def _find(name: str) -> Model:
    """The network of a name or a path, its weights checked against their hash."""
    from volflow.checkpoints.find import bundled_section_networks, find_network
    from volflow.checkpoints.section_header import is_section_checkpoint
    from volflow.errors import PlanError

    of_sections = bundled_section_networks().get(name, Path(name).expanduser())
    if of_sections.is_file() and is_section_checkpoint(of_sections):
        return _read(of_sections.stem, of_sections)
    try:
        path = find_network(name, None, None).path
    except ValueError as error:
        raise PlanError(str(error)) from error
    assert path is not None  # only a declared network of the user's own has no checkpoint
    return _read(Path(path).stem, Path(path))


def _read(name: str, path: Path) -> Model:
    from volflow.checkpoints.header import read_header
    from volflow.checkpoints.model_card import read_card
    from volflow.checkpoints.section_header import is_section_checkpoint, read_section_header

    read = read_section_header if is_section_checkpoint(path) else read_header
    header = read(path)
    return Model(name, path, header, read_card(path, header))


def _print_list(models: Sequence[Model]) -> None:
    from volflow.cli.terminal.formatting import output, print_table, size

    heads = ("network", "heads ", "voxel (nm) ", "size", "licence of the data ", "score ")
    rows = [
        (
            model.name,
            ", ".join(model.heads),
            _voxel(model.header),
            size(model.path.stat().st_size),
            _licence(model.card),
            _shortened(model.card.score) or "unknown" if model.card else "no card",
        )
        for model in models
    ]
    print_table(output(), heads, rows)


def _print_model(model: Model) -> None:
    from volflow.cli.terminal.formatting import output, size

    console = output()
    if model.card is None:
        click.echo(f"{model.name} has no card: its data, licence and score are unknown")
    else:
        if model.card.non_commercial:
            console.print("[bold yellow]not for commercial use[/]: see the licences below\n")
        click.echo(visible(model.card.text.rstrip()))
    click.echo(f"\n{model.path}, {size(model.path.stat().st_size)}\n")
    for key, value in model.header.model_dump(mode="json").items():
        click.echo(f"{key}: {json.dumps(value)}")


def _voxel(header: Header | SectionHeader) -> str:
    return " x ".join(f"{side:g}" for side in header.voxel_size_nm)


def _licence(card: Card | None) -> str:
    """A licence in a cell of the table, marked if it forbids commercial use."""
    if card is None:
        return "no card"
    text = _shortened(card.licence) or "unknown"
    return f"NON-COMMERCIAL: {text}" if card.non_commercial else text


def _shortened(text: str) -> str:
    """The beginning of a text, up to a semicolon or a bracket, at most `SHORT` characters."""
    first = text.split(";")[0].split(" (")[0].strip()
    return first if len(first) <= SHORT else first[: SHORT - 1].rstrip() + "…"
