"""Times and amounts of memory as cluster profiles write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?B)?\s*", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?")


def parse_memory(text: object) -> int:
    """Bytes of an amount of memory.

    `16 GB` is 16 * 10^9 bytes; `16 GiB`, and `16G` as Slurm writes it, are 16 * 2^30.

    Raises
    ------
    ValueError
        If it is not an amount with a unit.
    """
    found = _MEMORY.fullmatch(text) if isinstance(text, str) else None
    number = float(found.group(1)) if found else 0.0
    if not found or number <= 0:
        raise ValueError("expected an amount of memory with its unit, such as 16 GB or 16 GiB")
    base = 1000 if (found.group(3) or "").upper() == "B" else 1024
    return int(number * base ** (1 + "KMGT".index(found.group(2).upper())))


def parse_time(text: object) -> int:
    """Seconds of a time as Slurm writes it: `H:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`.

    Slurm's plain minutes and `MM:SS` are refused, because `30:00` is taken for hours too easily.
    So is what YAML has read as a number: `12:00:00` without quotes is 43200 to it.

    Raises
    ------
    ValueError
        If it is not such a time.
    """
    found = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if found:
        days, *rest = found.groups()
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
    """A time as Slurm reads it: `D-HH:MM:SS`, without the days where there are none.

    >>> time_text(90061)
    '1-01:01:01'
    """
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def _unless_parsed(parse: Any) -> BeforeValidator:
    return BeforeValidator(parse)


Memory = Annotated[int, _unless_parsed(parse_memory)]
"""Bytes."""
Duration = Annotated[int, _unless_parsed(parse_time)]
"""Seconds."""
