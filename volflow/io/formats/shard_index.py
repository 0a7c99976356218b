"""Indices of the shards of our own precomputed volumes, which have no checksum.

    entries: start, end of each minishard's index | chunks, index of a minishard | chunks, ...

tensorstore reads a minishard whose entry is zero as zeros. It writes shards without gaps, so the
chunks of such a minishard are bytes that nothing refers to.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.errors import StorageError
from volflow.io.store import Store


def index_bytes(sharding: Mapping[str, Any]) -> int:
    """The size of the index at the start of a shard."""
    return 16 << int(sharding["minishard_bits"])


def require_whole_index(
    store: Store, key: str, index: bytes, sharding: Mapping[str, Any], folder: str
) -> None:
    """Check that the chunks of all minishards of a shard are known to its index.

    Nothing more is read if the index has an entry for each minishard.

    Parameters
    ----------
    store : Store
    key : str
        Of the shard.
    index : bytes
        Its first bytes, `index_bytes` of them.
    sharding : mapping
        Of the scale in `info`.
    folder : str
        Address of the volume, for messages.

    Raises
    ------
    StorageError
    """
    entries = np.frombuffer(index, "<u8").reshape(-1, 2)
    filled = entries[entries[:, 1] > entries[:, 0]]
    if len(filled) == len(entries):
        return
    size = len(index)
    for start, end in filled.tolist():
        body = store.read_range(key, len(index) + start, len(index) + end)
        size += end - start + _chunk_bytes(body, sharding, f"{folder}/{key}")
    if store.read_range(key, size, size + 1):
        raise StorageError(
            f"{folder}/{key} is damaged: expected {size} bytes by its index, got more"
        )


def _chunk_bytes(body: bytes, sharding: Mapping[str, Any], where: str) -> int:
    """The size of all chunks in the index of a minishard: ids, offsets and sizes, uint64 (3, N)."""
    packed = sharding.get("minishard_index_encoding") == "gzip"
    try:
        numbers = np.frombuffer(gzip.decompress(body) if packed else body, "<u8").reshape(3, -1)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise StorageError(f"{where} is damaged: an index of a minishard: {error}") from error
    return int(numbers[2].sum())
