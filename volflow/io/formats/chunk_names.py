"""Names of the objects that volflow writes below the folder of a scale: chunks and metadata.

precomputed   0-64_0-64_0-64, or of a sharded volume 1f.shard
zarr          .zarray, and Z/Y/X or 0/Z/Y/X with channels
zarr3         zarr.json, and c/Z/Y/X or c/0/Z/Y/X
n5            attributes.json, and X/Y/Z or X/Y/Z/0

Other files in such a folder are foreign: they are never deleted or replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.stored_array import Layout
from volflow.io.store import Store

ARRAY_METADATA = {"zarr": ".zarray", "zarr3": "zarr.json", "n5": "attributes.json"}
"""The object that describes the array of a scale, by format; precomputed has none."""

_SPAN = re.compile(r"(-?\d{1,18})-(-?\d{1,18})", re.ASCII)
_COUNT = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_SHARD = re.compile(r"([0-9a-f]{1,16})\.shard", re.ASCII)
_NAMED = 3  # files named in a refusal


def is_ours(format_name: str, layout: Layout | None, name: str) -> bool:
    """Whether volflow gives this name to an object of a scale.

    Parameters
    ----------
    format_name : str
    layout : Layout or None
        Of the scale; None if its metadata are lost: then the form of a name decides.
    name : str
        Below the folder of the scale.
    """
    if name == ARRAY_METADATA.get(format_name):
        return True
    if format_name == "precomputed":
        return layout is not None and _is_precomputed(layout, name)
    if format_name == "zarr3":
        if not name.startswith("c/"):
            return False
        name = name.removeprefix("c/")
    parts = name.split("/")
    if not all(map(_COUNT.fullmatch, parts)):
        return False
    numbers = [int(part) for part in parts]
    if format_name == "n5":
        numbers.reverse()
    if layout is None:
        return len(numbers) == 3 or (len(numbers) == 4 and numbers[0] == 0)
    unit = layout.chunk if layout.shard is None else layout.shard
    counts = (*(1 for _ in layout.leading), *(-(-layout.bounds.shape // unit)))
    return len(numbers) == len(counts) and all(
        number < count for number, count in zip(numbers, counts, strict=True)
    )


def _is_precomputed(layout: Layout, name: str) -> bool:
    counts = -(-layout.bounds.shape // layout.chunk)
    if layout.shard is not None:
        match = _SHARD.fullmatch(name)
        bits = sum(max(0, count - 1).bit_length() for count in counts)
        return match is not None and int(match[1], 16) < 1 << bits
    spans = [_SPAN.fullmatch(part) for part in name.split("_")]
    if len(spans) != 3:
        return False
    bounds = layout.bounds
    axes = zip(spans[::-1], bounds.start, bounds.stop, layout.chunk, strict=True)
    for span, start, stop, side in axes:
        if span is None:
            return False
        first, last = int(span[1]), int(span[2])
        if span[0] != f"{first}-{last}" or not start <= first < stop or (first - start) % side:
            return False
        if last != min(first + side, stop):
            return False
    return True


def ours(address: Address, layout: Layout | None) -> Callable[[str], bool]:
    """`is_ours` for the names of one scale."""
    return partial(is_ours, address.format_name, layout)


def delete_chunks(address: Address, folder: str, layout: Layout | None) -> None:
    """Delete the chunks and metadata of a scale; other files in its folder stay."""
    Store(str(address)).delete_prefix(f"{folder}/", only=ours(address, layout))


def require_free(
    address: Address,
    folder: str,
    layout: Layout,
    known: Callable[[str], bool],
) -> None:
    """Raise if a new scale would replace files in its folder that volflow did not write.

    Parameters
    ----------
    address : Address
    folder : str
        Of the scale.
    layout : Layout
        Of the new scale.
    known : function
        Whether a name is known to be of volflow's own.

    Raises
    ------
    StorageError
    """
    names = Store(str(address)).list(f"{folder}/")
    new = ours(address, layout)
    foreign = [name for name in names if not known(name) and _is_in_the_way(name, new)]
    if foreign:
        listed = ", ".join(f"{folder}/{name}" for name in foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise StorageError(
            f"volume {address}: volflow did not write {listed}{more} and will not replace them; "
            f"move them, or choose another path"
        )


def _is_in_the_way(name: str, new: Callable[[str], bool]) -> bool:
    """Whether a file has the name of a new one, or one of the two needs the other as a folder."""
    folders = name.split("/")
    above = ("/".join(folders[:length]) for length in range(1, len(folders)))
    below = (name + "/0" * length for length in range(1, 5))
    return new(name) or any(map(new, above)) or any(map(new, below))
