"""Named columns of each block, one small object per block.

    VFR1 | crc32 of all that follows | length of the header | header, JSON | columns

The header gives name, dtype, shape, coding and stored bytes of each column. Columns are
little-endian; those that gain by it have their bytes shuffled and packed with zstd. The same
columns make the same bytes.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping

import imagecodecs
import numpy as np

from volflow.core.geometry import Triple
from volflow.errors import StorageError
from volflow.io.store import Store

MAGIC = b"VFR1"
PACK_FROM = 512  # bytes; smaller columns do not repay the packing
_FRONT = struct.Struct("<4sII")


class Records:
    """The records of the blocks of one grid, by block index.

    Parameters
    ----------
    run : str
        Address of the run.
    prefix : str
        Where under the run the records lie.
    """

    def __init__(self, run: str, prefix: str) -> None:
        self._store, self._prefix = Store(run), prefix.strip("/")

    def write(self, index: Triple, record: Mapping[str, np.ndarray]) -> None:
        """Write the record of a block, replacing an earlier one."""
        self._store.write(self._key(index), encode(record))

    def read(self, index: Triple) -> dict[str, np.ndarray]:
        """Read the record of a block.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        key = self._key(index)
        body = self._store.read(key)
        if body is None:
            raise StorageError(f"record {self._store.location}/{key} is missing")
        try:
            return decode(body)
        except ValueError as error:
            message = f"record {self._store.location}/{key} is damaged: {error}"
            raise StorageError(message) from error

    def delete_all(self) -> None:
        """Delete the records of all blocks."""
        self._store.delete_prefix(f"{self._prefix}/")

    def _key(self, index: Triple) -> str:
        z, y, x = index
        return f"{self._prefix}/{z}_{y}_{x}"


def encode(record: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a record.

    Raises
    ------
    ValueError
        If a column is not of numbers, truth values or fixed-length strings.
    """
    columns, parts = [], []
    for name, column in record.items():
        array = np.asarray(column)
        if array.dtype.kind not in "biufcSU":
            raise ValueError(f"column '{name}' of dtype {array.dtype} cannot be recorded")
        dtype = array.dtype.newbyteorder("<")
        plain = array.astype(dtype, copy=False).tobytes()  # C order
        coding = "raw"
        if len(plain) >= PACK_FROM:
            packed = bytes(imagecodecs.zstd_encode(_shuffle(plain, dtype.itemsize), level=1))
            if len(packed) < len(plain):
                plain, coding = packed, "zstd"
        columns.append([name, dtype.str, array.shape, coding, len(plain)])
        parts.append(plain)
    header = json.dumps(columns, separators=(",", ":")).encode()
    body = b"".join([struct.pack("<I", len(header)), header, *parts])
    return _FRONT.pack(MAGIC, zlib.crc32(body), len(body)) + body


def decode(body: bytes) -> dict[str, np.ndarray]:
    """The record in some bytes; its arrays are writable.

    Raises
    ------
    ValueError
        If the bytes are not those that `encode` made.
    """
    if len(body) < _FRONT.size:
        raise ValueError(f"{len(body)} bytes are too few")
    magic, checksum, size = _FRONT.unpack_from(body)
    rest = memoryview(body)[_FRONT.size :]
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic!r} and not with {MAGIC!r}")
    if len(rest) != size:
        raise ValueError(f"{size} bytes were written and {len(rest)} are there")
    if zlib.crc32(rest) != checksum:
        raise ValueError("its checksum is wrong")
    (length,) = struct.unpack_from("<I", rest)
    at = 4 + length
    record = {}
    for name, text, shape, coding, stored in json.loads(bytes(rest[4:at])):
        dtype = np.dtype(text)
        plain = bytes(rest[at : at + stored])
        if coding == "zstd":
            length = math.prod(shape) * dtype.itemsize
            plain = _unshuffle(bytes(imagecodecs.zstd_decode(plain, out=length)), dtype.itemsize)
        record[name] = np.frombuffer(plain, dtype).reshape(shape).copy()
        at += stored
    return record


def _shuffle(plain: bytes, size: int) -> bytes:
    """The first bytes of all items, then the second ones, and so on."""
    return np.frombuffer(plain, np.uint8).reshape(-1, size).T.tobytes() if size > 1 else plain


def _unshuffle(plain: bytes, size: int) -> bytes:
    return np.frombuffer(plain, np.uint8).reshape(size, -1).T.tobytes() if size > 1 else plain
