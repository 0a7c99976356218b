"""JSON objects and texts with a checksum, so that damage to what is left valid is noticed.

An object has the checksum of its content under `checksum`: CRC-32 of the content as compact JSON
with sorted keys. A text has it in a comment on its last line, after a first line that announces it.
Spaces in JSON, the order of keys, and 8 written as 8.0 do not matter.

Objects and texts of earlier versions have no checksum. They are read if they have none but the
keys of those versions, so that a changed name of the key `checksum` is noticed, too.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Mapping
from typing import Any

from volflow.errors import StorageError
from volflow.io.store import Store

KEY = "checksum"
HEAD = "# Written by volflow; the last line is a checksum of all above it."
_END = re.compile(r"# end, crc32 ([0-9a-f]{8})\n", re.ASCII)


def checksum(value: Any) -> str:
    """The CRC-32 of a JSON value, eight hexadecimal digits."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum."""
    return {**content, KEY: checksum(content)}


def seal_problem(value: Any, known: Collection[str] | None = ()) -> str:
    """The problem of the checksum of a JSON object; "" if there is none.

    Parameters
    ----------
    value : JSON value
    known : collection of str
        The keys of earlier versions, which had no checksum; None: any; empty: there were none.
    """
    if not isinstance(value, dict):
        return "expected keys and values"
    if KEY not in value:
        if known is None or (known and set(value) <= set(known)):
            return ""
        return f"expected a key '{KEY}', got {', '.join(map(repr, value)) or 'none'}"
    expected = checksum({name: item for name, item in value.items() if name != KEY})
    if value[KEY] != expected:
        return f"expected the checksum {expected}, got {value[KEY]!r}"
    return ""


def write_sealed(store: Store, key: str, content: Mapping[str, Any]) -> None:
    """Write an object as JSON with its checksum."""
    store.write_json(key, sealed(content))


def read_sealed(
    store: Store, key: str, known: Collection[str] | None = ()
) -> dict[str, Any] | None:
    """The content of a JSON object; None if it does not exist. `known` is as in `seal_problem`.

    Raises
    ------
    StorageError
        If it is not JSON, or its checksum is missing or wrong.
    """
    return unsealed(store, key, store.value(key), known)


def unsealed(
    store: Store, key: str, body: bytes | None, known: Collection[str] | None = ()
) -> dict[str, Any] | None:
    """The content of the bytes of a JSON object, as `read_sealed` returns it."""
    if body is None:
        return None
    value = store.json(key, body)
    if value is None:
        return None
    problem = seal_problem(value, known)
    if problem:
        raise StorageError(f"{store.location}/{key} is damaged, or was changed: {problem}")
    return {name: item for name, item in value.items() if name != KEY}


def seal_text(text: str) -> str:
    """A text with its checksum, in comments that begin with #."""
    body = f"{HEAD}\n{text.rstrip()}\n"
    return f"{body}# end, crc32 {zlib.crc32(body.encode()):08x}\n"


def text_problem(body: bytes) -> str:
    """The problem of the checksum of a text; "" if there is none, or it never had one."""
    head, end = HEAD.encode(), body.rfind(b"# end, crc32 ")
    if end < 0:
        # Without the end, a text whose first line is not whole may still be one of ours.
        first = body.partition(b"\n")[0]
        begins = first.startswith(head[:16]) or head.startswith(first)
        return "expected a checksum on its last line" if begins else ""
    match = _END.fullmatch(body[end:].decode(errors="replace"))
    if match is None:
        return "expected a checksum on its last line"
    expected = f"{zlib.crc32(body[:end]):08x}"
    if match[1] != expected:
        return f"expected the checksum {expected} on its last line, got {match[1]}"
    return ""


def _canonical(value: Any) -> Any:
    """The value with tuples as lists and whole numbers as integers, as other writers have them."""
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
