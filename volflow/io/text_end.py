"""The end of a text file by another program: without a line end, its last line may be cut short."""

from __future__ import annotations

from collections.abc import Mapping

NAMED = 3  # files named in a warning
_LINE_ENDS = (b"\n", b"\r", b"\n\0", b"\r\0")  # the latter two are UTF-16


def end_warnings(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """A sentence on the texts, by name, whose last line has no end; empty if there are none.

    The beginning of a number is a number, so nothing else shows that the last line is complete.
    """
    open_ended = [name for name, body in files.items() if not body.endswith(_LINE_ENDS)]
    if not open_ended:
        return ()
    names = ", ".join(open_ended[:NAMED])
    more = f" and {len(open_ended) - NAMED} more" if len(open_ended) > NAMED else ""
    have = "has" if len(open_ended) == 1 else "have"
    return (f"{names}{more} {have} no line end after the last line, which may be cut short",)
