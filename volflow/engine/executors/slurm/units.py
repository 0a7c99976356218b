"""Times and amounts of memory as cluster profiles and Slurm write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?B)?\s*", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?")


def parse_memory(text: object) -> int:
    """Bytes of an amount of memory.

    `16 GB` is 16 * 10^9 bytes; `16 GiB`, and `16G` as Slurm writes it, are 16 * 2^30.

    Raises
    ------
    ValueError
        If the text is not an amount with a unit.
    """
    match = _MEMORY.fullmatch(text) if isinstance(text, str) else None
    number = float(match.group(1)) if match else 0.0
    if not match or number <= 0:
        raise ValueError("expected an amount of memory with its unit, such as 16 GB or 16 GiB")
    base = 1000 if (match.group(3) or "").upper() == "B" else 1024
    return int(number * base ** (1 + "KMGT".index(match.group(2).upper())))


def parse_time(text: object) -> int:
    """Seconds of a time as Slurm writes it: `H:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`.

    Slurm's plain minutes and its `MM:SS` are refused, because `30:00` is too easily taken for
    hours. So is a number, which YAML makes of a time without quotes: `12:00:00` becomes 43200.

    Raises
    ------
    ValueError
        If the text is not such a time.
    """
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if match:
        days, *rest = match.groups()
        parts = [int(part) for part in rest if part is not None]
        fits = len(parts) == 3 or (days is not None and len(parts) >= 1)
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        if fits and minutes < 60 and seconds < 60 and total:
            return total
    raise ValueError(
        "expected a time in quotes, such as '04:00:00' (hours:minutes:seconds) or '2-12:00:00' "
        "(days-hours:minutes:seconds)"
    )


def time_text(seconds: int) -> str:
    """Time as Slurm reads it: `D-HH:MM:SS`, without the days if there are none.

    >>> time_text(90061)
    '1-01:01:01'
    """
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


Memory = Annotated[
    int,
    BeforeValidator(parse_memory),
    WithJsonSchema({"type": "string", "examples": ["16 GB", "16 GiB"]}),
]
"""Bytes."""
Duration = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema({"type": "string", "examples": ["04:00:00", "2-12:00:00"]}),
]
"""Seconds."""
