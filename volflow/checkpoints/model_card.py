"""The card beside a checkpoint: what it was made of, who may use it, how good it is.

A card is a Markdown page. Its first table, of two columns, holds what is asked of every network:

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
from volflow.errors import StorageError

LICENCES = ("licence of the data", "licence")
NOT_FOR_TRADE = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
ROW = re.compile(r"\|(?P<key>[^|]*)\|(?P<value>.*)\|\s*")


@dataclass(frozen=True)
class Card:
    """A card's text, and the rows of its first table by their first column."""

    text: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def licence(self) -> str:
        """The licence of the data that the weights are derived from; '' if it is not told."""
        return next((self.rows[name] for name in LICENCES if self.rows.get(name)), "")

    @property
    def score(self) -> str:
        """How good the network was on what it did not see; '' if it is not told."""
        return self.rows.get("validation", "")

    @property
    def non_commercial(self) -> bool | None:
        """Whether a licence on the card forbids commercial use; None if it tells of no licence."""
        told = [value for name, value in self.rows.items() if name.startswith("licence")]
        return any(NOT_FOR_TRADE.search(value) for value in told) if any(told) else None


def read_card(checkpoint: str | os.PathLike[str], header: Header) -> Card | None:
    """The card beside a checkpoint, None if it has none.

    Its name is what the header says, else that of the checkpoint.

    Raises
    ------
    StorageError
        If it is there and is not text.
    """
    place = Path(checkpoint)
    named = Path(header.card).name  # beside the checkpoint, wherever the header points
    for path in ([place.with_name(named)] if named else []) + [place.with_suffix(".md")]:
        if not path.is_file():
            continue
        try:
            return parsed(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"card {path}: cannot be read: {error}") from error
    return None


def parsed(text: str) -> Card:
    """A card of this text."""
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
