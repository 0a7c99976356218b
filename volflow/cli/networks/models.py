"""`models`: the networks that are here, what each makes, who may use it, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from volflow.checkpoints.header import Header
    from volflow.checkpoints.model_card import Card

SHORT = 60  # characters of a licence or a score in the table; NAME tells it in full


@dataclass(frozen=True)
class Model:
    """A checkpoint, its header and its card."""

    name: str
    path: Path
    header: Header
    card: Card | None

    def document(self) -> dict[str, Any]:
        """All that is known of it, as JSON."""
        card = self.card
        return {
            "name": self.name,
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "heads": {name: head.channels for name, (head, _) in self.header.named.items()},
            "non_commercial": card.non_commercial if card else None,
            "licence": card.licence if card else "",
            "score": card.score if card else "",
            "header": self.header.model_dump(mode="json"),
            "card": card.text if card else None,
        }


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, cards and headers included.")
def models(name: str | None, as_json: bool) -> None:
    """List the shipped networks, or tell all about NAME.

    NAME is a shipped network's name or the path of a checkpoint: its card is printed, and what it
    says of itself. Non-commercial licences are marked; a checkpoint without a card is told.
    """
    if name is not None:
        one = _found(name)
        if as_json:
            click.echo(json.dumps(one.document(), indent=1))
        else:
            _tell(one)
        return
    here, wrong = _shipped()
    if as_json:
        click.echo(json.dumps([one.document() for one in here], indent=1))
    else:
        _list(here)
    if wrong:
        from volflow.errors import StorageError

        raise StorageError("\n".join(wrong))


def _shipped() -> tuple[list[Model], list[str]]:
    """The shipped networks that can be read, and what is wrong with the others."""
    from volflow.checkpoints.find import bundled_networks

    here, wrong = [], []
    for name, path in bundled_networks().items():
        try:
            here.append(_read(name, path))
        except Exception as error:  # one that is damaged hides no other
            wrong.append(str(error))
    return here, wrong


def _found(name: str) -> Model:
    """The network of a name or a path, its weights compared with their hash."""
    from volflow.checkpoints.find import find_network
    from volflow.errors import PlanError

    try:
        path = find_network(name, None, None).path
    except ValueError as error:
        raise PlanError(str(error)) from error
    assert path is not None  # what is not ours has to be declared, and was not
    return _read(Path(path).stem, Path(path))


def _read(name: str, path: Path) -> Model:
    from volflow.checkpoints.header import read_header
    from volflow.checkpoints.model_card import read_card

    header = read_header(path)
    return Model(name, path, header, read_card(path, header))


def _list(here: Sequence[Model]) -> None:
    from volflow.cli.terminal.formatting import output, print_table, size

    heads = ("network", "heads ", "voxel (nm) ", "size", "licence of the data ", "score ")
    rows = [
        (
            one.name,
            ", ".join(one.header.named),
            _voxel(one.header),
            size(one.path.stat().st_size),
            _licence(one.card),
            _short(one.card.score) or "not told" if one.card else "no card",
        )
        for one in here
    ]
    print_table(output(), heads, rows)


def _tell(one: Model) -> None:
    from volflow.cli.terminal.formatting import output, size

    console = output()
    if one.card is None:
        click.echo(f"{one.name} has no card: nothing tells its data, its licence or its score")
    else:
        if one.card.non_commercial:
            console.print("[bold yellow]not for commercial use[/]: see the licences below\n")
        click.echo(one.card.text.rstrip())
    click.echo(f"\n{one.path}, {size(one.path.stat().st_size)}\n")
    for key, value in one.header.model_dump(mode="json").items():
        click.echo(f"{key}: {json.dumps(value)}")


def _voxel(header: Header) -> str:
    return " x ".join(f"{side:g}" for side in header.voxel_size_nm)


def _licence(card: Card | None) -> str:
    """A licence in a cell of the table, marked if it forbids commercial use."""
    if card is None:
        return "no card"
    told = _short(card.licence) or "not told"
    return f"NON-COMMERCIAL: {told}" if card.non_commercial else told


def _short(text: str) -> str:
    """The beginning of a text, up to what stands in brackets or after a colon."""
    first = text.split(";")[0].split(" (")[0].strip()
    return first if len(first) <= SHORT else first[: SHORT - 1].rstrip() + "…"
