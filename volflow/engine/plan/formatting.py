"""Numbers as messages show them."""

from __future__ import annotations

from collections.abc import Iterable


def bytes_text(number: float) -> str:
    """Bytes in the decimal unit that fits: 1.2 GB."""
    from rich.filesize import decimal  # a process that runs blocks need not import rich

    return decimal(int(number))


def triple_text(values: Iterable[float]) -> str:
    """A triple in the notation of the pipeline file: [40, 8, 8]."""
    return "[" + ", ".join(f"{value:.12g}" for value in values) + "]"
