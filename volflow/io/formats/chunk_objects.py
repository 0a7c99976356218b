"""Objects of a foreign volume: how many of its chunks are missing, and names that are no chunk's.

A missing chunk is background in most formats. But chunks that were written under other names, in
nested folders or packed, are missing, too, and then background would replace the volume. So at
least one chunk has to exist, and if any is missing, every object has to be one of the volume.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.errors import StorageError
from volflow.io.address import context
from volflow.io.object_store import describe_store_error

SECONDS = 4.0  # after which the objects of a folder are no longer counted
SAMPLED = 256  # chunks of a remote volume that are looked for
NO_CHUNKS = re.compile(
    r"\..*|(zarr|attributes|provenance|info|volflow\..*)(\.json)?|.*\.(md|txt|json|ya?ml|html?|log)"
    r"|(readme|license|licence)(\..*)?",
    re.IGNORECASE,
)
"""Names of objects that a volume may have apart from its chunks."""


@dataclass(frozen=True)
class ChunkNames:
    """The names of the chunks of an array.

    Attributes
    ----------
    counts : tuple of int
        Chunks along each axis, in the order of the names.
    folder : str
        Folder of the chunks below that of the array; "" or ending in a slash.
    nested : bool
        Whether each part of a name is a folder; otherwise a name is one file.
    of : function
        The name of a chunk by its numbers.
    is_one : function
        Whether a name, or the first parts of a nested one, is that of a chunk.
    total : int or None
        Number of chunks; None if unknown.
    """

    counts: tuple[int, ...]
    folder: str
    nested: bool
    of: Callable[[Sequence[int]], str]
    is_one: Callable[[str], bool]
    total: int | None


@dataclass
class _Listing:
    """The objects of a folder: chunks, and names that are none."""

    chunks: int = 0
    others: list[str] = field(default_factory=list)
    complete: bool = True


def check_objects(array: ts.TensorStore, where: str) -> str:
    """A sentence on missing chunks; "" if none is.

    Raises
    ------
    StorageError
        If no chunk exists, or chunks are missing and there are objects of other names.
    """
    spec = array.spec().to_json()
    names = chunk_names(spec)
    if names is None or (names.total == 0):
        return ""
    store = spec["kvstore"]
    if isinstance(store, dict) and store.get("driver") == "file":
        return _check_local(Path(store["path"]) / names.folder, names, where)
    return _check_remote(store, names, where)


def _check_local(folder: Path, names: ChunkNames, where: str) -> str:
    listing = _Listing()
    _list(folder, names, listing, time.monotonic() + SECONDS)
    missing = None if names.total is None else names.total - listing.chunks
    if missing == 0 or (missing is None and listing.chunks and not listing.others):
        return ""
    if not listing.complete:
        return f"more than {listing.chunks:,} of {names.total or 'its':,} chunks exist"
    first = names.of([0] * len(names.counts))
    if listing.others or not listing.chunks:
        others = f"{', '.join(listing.others[:3])} in {folder}" if listing.others else "no other"
        count = "no chunk" if not listing.chunks else f"{listing.chunks:,} chunks"
        raise StorageError(
            f"{where}: {count} of {names.total or 'them'} found and objects of other names: "
            f"expected names such as {names.folder}{first}, got {others}; correct the metadata, "
            f"unpack or rename the chunks, or remove other files"
        )
    return f"{missing:,} of {names.total:,} chunks are missing and are read as the fill value"


def _list(folder: Path, names: ChunkNames, listing: _Listing, deadline: float) -> None:
    """Count the chunks in a folder, and collect other names."""
    depth = len(names.counts) if names.nested else 1

    def visit(path: str, prefix: str, level: int) -> None:
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for number, entry in enumerate(entries):
                if number % 1024 == 0 and time.monotonic() > deadline:
                    listing.complete = False
                if not listing.complete:
                    return
                name = prefix + entry.name
                if not names.is_one(name):
                    if not NO_CHUNKS.fullmatch(entry.name) and len(listing.others) < 16:
                        listing.others.append(name)
                elif level < depth:
                    visit(entry.path, name + "/", level + 1)
                else:
                    listing.chunks += 1

    visit(str(folder), "", 1)


def _check_remote(store: Any, names: ChunkNames, where: str) -> str:
    """Look for some of the chunks: a list of a bucket takes long."""
    if names.total is None:
        return ""
    numbers = np.unique(np.linspace(0, names.total - 1, min(SAMPLED, names.total)).astype(np.int64))
    keys = [names.folder + names.of(np.unravel_index(n, names.counts)) for n in numbers]
    try:
        objects = ts.KvStore.open(store, context=context()).result()
        reading = [objects.read(key, byte_range=slice(0, 1)) for key in keys]
        missing = sum(future.result().state == "missing" for future in reading)
    except (ValueError, OSError, RuntimeError) as error:
        raise StorageError(f"{where}: {describe_store_error(error, '')}") from error
    if missing == len(keys):
        raise StorageError(
            f"{where}: expected chunks with names such as {keys[0]}, got none of {len(keys)} that "
            f"were looked for; correct the metadata, unpack or rename the chunks"
        )
    if not missing:
        return ""
    return (
        f"{missing} of {len(keys)} chunks that were looked for are missing, of {names.total:,} in "
        f"all; missing ones are read as the fill value"
    )


# --- names by format -----------------------------------------------------------------------------


def chunk_names(spec: dict[str, Any]) -> ChunkNames | None:
    """The names of the chunks of an array with this specification; None if they are unknown."""
    metadata = spec.get("metadata", {})
    driver = spec["driver"]
    if driver == "zarr":
        counts = _counts(metadata["shape"], metadata["chunks"])
        return _separated(counts, metadata.get("dimension_separator", "."), "")
    if driver == "n5":
        return _separated(_counts(metadata["dimensions"], metadata["blockSize"]), "/", "")
    if driver == "zarr3":
        grid = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        encoding = metadata.get("chunk_key_encoding", {"name": "default"})
        is_default = encoding.get("name") == "default"
        options = encoding.get("configuration", {})
        separator = options.get("separator", "/" if is_default else ".")
        prefix = f"c{separator}" if is_default else ""
        return _separated(_counts(metadata["shape"], grid), separator, prefix)
    return _precomputed(spec["scale_metadata"]) if driver.startswith("neuroglancer") else None


def _counts(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-side // step) for side, step in zip(shape, chunk, strict=True))


def _separated(counts: tuple[int, ...], separator: str, prefix: str) -> ChunkNames:
    """Names of numbers: 0.3.2, or 0/3/2."""
    nested = separator == "/"
    folder = prefix if nested else ""
    start = "" if nested else prefix

    def of(numbers: Sequence[int]) -> str:
        return start + separator.join(str(number) for number in numbers)

    def is_one(name: str) -> bool:
        if not name.startswith(start):
            return False
        parts = name[len(start) :].split(separator)
        if not nested and len(parts) != len(counts):
            return False
        return all(
            part.isdecimal() and int(part) < count and (part[0] != "0" or part == "0")
            for part, count in zip(parts, counts, strict=False)
        )

    return ChunkNames(counts, folder, nested, of, is_one, int(np.prod(counts, dtype=np.int64)))


_BOX = re.compile(r"(-?\d+)-(-?\d+)_(-?\d+)-(-?\d+)_(-?\d+)-(-?\d+)")


def _precomputed(scale: dict[str, Any]) -> ChunkNames:
    """Names of boxes, x first: 0-64_0-64_0-32; or of shards."""
    folder = f"{scale['key']}/"
    size, chunk = scale["size"], scale["chunk_size"]
    offset = scale.get("voxel_offset", [0, 0, 0])
    counts = _counts(size, chunk)
    if scale.get("sharding"):
        shard = re.compile(r"[0-9a-f]+\.shard")
        return ChunkNames(
            counts, folder, False, lambda _: "0.shard", lambda n: bool(shard.fullmatch(n)), None
        )

    def ends(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        for number, side, step, first in zip(numbers, size, chunk, offset, strict=True):
            yield first + number * step, first + min(side, (number + 1) * step)

    def of(numbers: Sequence[int]) -> str:
        return "_".join(f"{begin}-{end}" for begin, end in ends([int(n) for n in numbers]))

    def is_one(name: str) -> bool:
        match = _BOX.fullmatch(name)
        if match is None:
            return False
        begins = [int(text) for text in match.groups()[::2]]
        numbers = [
            (begin - first) // step
            for begin, first, step in zip(begins, offset, chunk, strict=True)
        ]
        inside = all(0 <= n < count for n, count in zip(numbers, counts, strict=True))
        return inside and of(numbers) == name

    return ChunkNames(counts, folder, False, of, is_one, int(np.prod(counts, dtype=np.int64)))
