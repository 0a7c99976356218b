"""Objects of a foreign volume: how many of its chunks are missing, and names that are no chunk's.

A missing chunk is background in most formats. But chunks that were written under other names, in
nested folders or packed, are missing, too, and then background would replace the volume. So at
least one chunk has to exist, and if any is missing, every object has to be one of the volume.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.errors import StorageError
from volflow.io.address import context
from volflow.io.formats.shard_objects import DECLARE, NO_CHUNKS, check_shards
from volflow.io.object_store import describe_store_error

SECONDS = 4.0  # after which the objects of a folder are no longer counted
QUICKER = 8  # times that the name of a chunk is made faster than a name is taken apart
SAMPLED = 256  # chunks of a remote volume that are looked for


@dataclass(frozen=True)
class ChunkNames:
    """The names of the chunks of an array.

    Attributes
    ----------
    parts : tuple of tuple of str
        The parts of names, per axis: a name is one of each, joined by the separator.
    separator, prefix : str
        A slash makes each part a folder; the prefix is that of each name.
    folder : str
        Folder of the chunks below that of the array; "" or ending in a slash.
    sharded : bool
        Whether names are those of shards, which have no parts.
    """

    parts: tuple[tuple[str, ...], ...]
    separator: str
    prefix: str = ""
    folder: str = ""
    sharded: bool = False

    @property
    def total(self) -> int:
        """The number of chunks."""
        return math.prod(len(part) for part in self.parts)

    def name(self, number: int) -> str:
        """The name of a chunk by its number in row-major order."""
        places = np.unravel_index(number, [len(part) for part in self.parts])
        words = [part[int(at)] for part, at in zip(self.parts, places, strict=True)]
        return self.prefix + self.separator.join(words)

    def count_in(self, names: Collection[str]) -> tuple[int, list[str]]:
        """Number of the names that are chunks in one folder, and the other names."""
        if self.total <= QUICKER * len(names):
            left, words = set(names), itertools.product(*self.parts)
            chunks = map(self.separator.join, words)
            left.difference_update(map(self.prefix.__add__, chunks) if self.prefix else chunks)
            others = sorted(left)
        else:
            known = [frozenset(part) for part in self.parts]
            others = [name for name in names if not self._is_one(name, known)]
        return len(names) - len(others), others

    def _is_one(self, name: str, known: Sequence[Collection[str]]) -> bool:
        words = name.removeprefix(self.prefix).split(self.separator)
        return (
            name.startswith(self.prefix)
            and len(words) == len(known)
            and all(word in part for word, part in zip(words, known, strict=True))
        )


@dataclass
class _Listing:
    """The objects of a folder: chunks, and names that are none."""

    chunks: int = 0
    others: list[str] = field(default_factory=list)
    complete: bool = True


def check_objects(spec: dict[str, Any], where: str, background: bool = False) -> str:
    """A sentence on missing chunks of the array of a tensorstore specification; "" if none is.

    Parameters
    ----------
    spec : dict
    where : str
        The volume, for messages.
    background : bool
        Whether missing chunks are declared to be background: then nothing is refused.

    Raises
    ------
    StorageError
        If no chunk exists, or chunks are missing and there are objects of other names.
    """
    names = chunk_names(spec)
    if names is None or not names.total:
        return ""
    store = spec["kvstore"]
    if isinstance(store, dict) and store.get("driver") == "file":
        folder = Path(store["path"]) / names.folder
        if names.sharded:
            return check_shards(folder, spec["scale_metadata"], where, background)
        return _check_local(folder, names, where, background)
    return "" if names.sharded else _check_remote(store, names, where, background)


def _check_local(folder: Path, names: ChunkNames, where: str, background: bool) -> str:
    listing = _Listing()
    _list(folder, names, listing)
    total = names.total
    missing = total - listing.chunks
    if listing.chunks and not missing:
        return ""
    if not listing.complete:
        return f"of {total:,} chunks {listing.chunks:,} were counted in {SECONDS:g} s, not all"
    if not background and (listing.others or not listing.chunks):
        others = ", ".join(listing.others[:3]) or "no others"
        count = f"{listing.chunks:,} chunks" if listing.chunks else "no chunk"
        raise StorageError(
            f"{where}: {count} of {total:,} exist: expected chunks such as {names.name(0)} in "
            f"{folder}, got {others}; correct the metadata, unpack or rename the chunks, or "
            f"remove other files; {DECLARE}"
        )
    return f"{missing:,} of {total:,} chunks are missing and are read as the fill value"


def _list(folder: Path, names: ChunkNames, listing: _Listing) -> None:
    """Count the chunks in a folder, and collect other names."""
    deadline = time.monotonic() + SECONDS
    nested = names.separator == "/"
    known = [frozenset(part) for part in names.parts]

    def visit(path: str, prefix: str, level: int) -> None:
        try:
            entries = os.listdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        is_last = not nested or level == len(known) - 1
        if not nested:
            count, others = names.count_in(entries)
        else:
            count, others = len(known[level].intersection(entries)), []
            if count < len(entries):
                others = [name for name in entries if name not in known[level]]
        unexpected = (prefix + name for name in others if not NO_CHUNKS.fullmatch(name))
        listing.others += itertools.islice(unexpected, 3)
        if is_last:
            listing.chunks += count
            return
        for name in known[level].intersection(entries):
            if time.monotonic() > deadline:
                listing.complete = False
                return
            visit(f"{path}/{name}", f"{prefix}{name}/", level + 1)

    visit(str(folder), "", 0)


def _check_remote(store: Any, names: ChunkNames, where: str, background: bool) -> str:
    """Look for some of the chunks: a list of a bucket takes long."""
    numbers = np.linspace(0, names.total - 1, min(SAMPLED, names.total)).astype(np.int64)
    keys = [names.folder + names.name(int(number)) for number in numbers]
    try:
        objects = ts.KvStore.open(store, context=context()).result()
        reading = [objects.read(key, byte_range=slice(0, 1)) for key in keys]
        missing = sum(future.result().state == "missing" for future in reading)
    except (ValueError, OSError, RuntimeError) as error:
        raise StorageError(f"{where}: {describe_store_error(error, '')}") from error
    if missing == len(keys) and not background:
        raise StorageError(
            f"{where}: expected chunks with names such as {keys[0]}, got none of {len(keys)} that "
            f"were looked for; correct the metadata, unpack or rename the chunks; {DECLARE}"
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
        separator = metadata.get("dimension_separator", ".")
        return ChunkNames(_numbers(metadata["shape"], metadata["chunks"]), separator)
    if driver == "n5":
        return ChunkNames(_numbers(metadata["dimensions"], metadata["blockSize"]), "/")
    if driver == "zarr3":
        grid = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        encoding = metadata.get("chunk_key_encoding", {"name": "default"})
        is_default = encoding.get("name") == "default"
        options = encoding.get("configuration", {})
        separator = options.get("separator", "/" if is_default else ".")
        prefix = f"c{separator}" if is_default else ""
        parts = _numbers(metadata["shape"], grid)
        if separator == "/":
            return ChunkNames(parts, separator, folder=prefix)
        return ChunkNames(parts, separator, prefix)
    return _precomputed(spec["scale_metadata"]) if driver.startswith("neuroglancer") else None


def _numbers(shape: Sequence[int], chunk: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """The numbers of chunks along each axis."""
    return tuple(
        tuple(map(str, range(-(-side // step)))) for side, step in zip(shape, chunk, strict=True)
    )


def _precomputed(scale: dict[str, Any]) -> ChunkNames:
    """Names of boxes, x first: 0-64_0-64_0-32; or of shards."""
    offset = scale.get("voxel_offset", [0, 0, 0])
    axes = zip(scale["size"], scale["chunk_size"], offset, strict=True)
    parts = tuple(
        tuple(
            f"{first + begin}-{first + min(side, begin + step)}" for begin in range(0, side, step)
        )
        for side, step, first in axes
    )
    return ChunkNames(parts, "_", folder=f"{scale['key']}/", sharded=bool(scale.get("sharding")))
