"""The model card next to a checkpoint: training data, licence and scores.

A card is a Markdown page. Its first table, of two columns, has these rows for every network:

    | data | FIB-25, sections 0-120 |
    | licence of the data | CC BY-NC 4.0 |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from volflow.checkpoints.header import Header
from volflow.checkpoints.section_header import SectionHeader
from volflow.errors import StorageError

LICENCES = ("licence of the data", "licence")
NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
ROW = re.compile(r"\|(?P<key>[^|]*)\|(?P<value>.*)\|\s*")


@dataclass(frozen=True)
class Card:
    """A card's text, and the rows of its first table by their first column."""

    text: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def licence(self) -> str:
        """The licence of the data that the weights are derived from; '' if the card has none."""
        return next((self.rows[name] for name in LICENCES if self.rows.get(name)), "")

    @property
    def score(self) -> str:
        """The score of the network on held-out data; '' if the card has none."""
        return self.rows.get("validation", "")

    @property
    def non_commercial(self) -> bool | None:
        """Whether a licence on the card forbids commercial use; None if the card has no licence."""
        licences = [value for name, value in self.rows.items() if name.startswith("licence")]
        if not any(licences):
            return None
        return any(NON_COMMERCIAL.search(licence) for licence in licences)


def read_card(checkpoint: str | os.PathLike[str], header: Header | SectionHeader) -> Card | None:
    """The card of a checkpoint, None if it has none.

    Its file name is that in the header, else that of the checkpoint.

    Raises
    ------
    StorageError
        If it exists and cannot be read as text.
    """
    place = Path(checkpoint)
    named = Path(header.card).name  # next to the checkpoint, whatever folder the header names
    for path in ([place.with_name(named)] if named else []) + [place.with_suffix(".md")]:
        if not path.is_file():
            continue
        try:
            return parse_card(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"card {path}: cannot be read: {error}") from error
    return None


def parse_card(text: str) -> Card:
    """The card with this text."""
    rows: dict[str, str] = {}
    for line in text.splitlines():
        row = ROW.fullmatch(line)
        if row is None:
            if rows:
                break
            continue
        key, value = row["key"].strip(), row["value"].strip()
        if key.strip("-: "):
            rows.setdefault(key, value)
    return Card(text, rows)
