"""Tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[str]]]
"""Column titles and rows."""


def html_tables(title: str, tables: Iterable[Table]) -> str:
    """A title in bold and tables below it as HTML; every text is escaped."""
    return "\n".join([f"<b>{escape(title)}</b>", *(_table(heads, rows) for heads, rows in tables)])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
