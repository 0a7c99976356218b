"""Named columns of each block, one small object per block.

    VFR1 | crc32 of all that follows | length of the header | header, JSON | columns

The header holds name, dtype, shape, coding and stored bytes of each column. A column of bytes, an
object array, has dtype `bytes`: the sizes of the items (uint64), then the items. The others are
little-endian. If it makes them smaller, integers are narrowed to the smallest type that holds
them, their bytes are shuffled, and they are compressed with zstd: coding `zstd:<u2` means shuffled
16-bit integers, `zstd` alone the column's own type. Equal columns have equal bytes.
"""

from __future__ import annotations

import functools
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs
import numpy as np

from volflow.core.geometry import Triple
from volflow.errors import StorageError
from volflow.io.store import Store

MAGIC = b"VFR1"
BYTES = "bytes"  # in place of the dtype of a column of bytes
PACK_FROM = 512  # bytes; compressing smaller columns gains nothing
_KEY = re.compile(r"\d{1,18}_\d{1,18}_\d{1,18}", re.ASCII)
_FRONT = struct.Struct("<4sII")


class Records:
    """The records of the blocks of one grid, by block index.

    Parameters
    ----------
    run : str
        Address of the run.
    prefix : str
        Their folder under the run.
    before_write : callable, optional
        Called before each write; an exception that it raises prevents the write.
    """

    def __init__(
        self, run: str, prefix: str, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self._before_write = before_write
        self._store, self._prefix = Store(run), prefix.strip("/")

    def write(self, index: Triple, record: Mapping[str, np.ndarray]) -> None:
        """Write the record of a block, replacing an earlier one."""
        body = encode(record)
        self._before_write()
        self._store.write(self._key(index), body)

    def read(self, index: Triple) -> dict[str, np.ndarray]:
        """Read the record of a block.

        Raises
        ------
        StorageError
            If it is missing or damaged.
        """
        key = self._key(index)
        body = self._store.find(key).value  # its checksum shows whether it is complete
        if body is None:
            raise StorageError(f"record {self._store.location}/{key} is missing")
        try:
            return decode(body)
        except ValueError as error:
            message = f"record {self._store.location}/{key} is damaged: {error}"
            raise StorageError(message) from error

    def delete_all(self) -> None:
        """Delete the records of all blocks."""
        self._store.delete_prefix(f"{self._prefix}/", only=is_record)

    def _key(self, index: Triple) -> str:
        z, y, x = index
        return f"{self._prefix}/{z}_{y}_{x}"


def is_record(key: str) -> bool:
    """Whether the last part of a key names the record of a block; other files are foreign."""
    return _KEY.fullmatch(key.rpartition("/")[2]) is not None


def encode(record: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a record.

    Raises
    ------
    ValueError
        If a column is not of numbers, booleans, fixed-length strings or bytes.
    """
    columns: list[Any] = []
    parts: list[bytes | bytearray] = []
    for name, column in record.items():
        array = np.asarray(column)
        if array.dtype == object:
            items = _joined(name, array)
            columns.append([name, BYTES, array.shape, "raw", len(items)])
            parts.append(items)
            continue
        if array.dtype.kind not in "biufcSU":
            raise ValueError(
                f"column '{name}': expected numbers, booleans, fixed-length strings or bytes; "
                f"got {array.dtype}"
            )
        dtype = array.dtype.newbyteorder("<")
        flat = array.astype(dtype, copy=False).ravel()  # C order
        part: bytes | bytearray = b""
        coding = "raw"
        if flat.nbytes >= PACK_FROM:
            narrow = _narrowed(flat)
            part = imagecodecs.zstd_encode(_shuffle(narrow), level=1)
            coding = f"zstd:{narrow.dtype.str}"
        if not part or len(part) >= flat.nbytes:
            part, coding = flat.tobytes(), "raw"
        columns.append([name, dtype.str, array.shape, coding, len(part)])
        parts.append(part)
    header = json.dumps(columns, separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(header)), header, *parts]
    checksum = functools.reduce(lambda before, part: zlib.crc32(part, before), parts, 0)
    return b"".join([_FRONT.pack(MAGIC, checksum, sum(map(len, parts))), *parts])


def decode(body: bytes) -> dict[str, np.ndarray]:
    """The record in some bytes, as writable arrays.

    Raises
    ------
    ValueError
        If `encode` did not write the bytes, or not all of them are there.
    """
    if len(body) < _FRONT.size:
        raise ValueError(f"expected at least {_FRONT.size} bytes, got {len(body)}")
    magic, checksum, size = _FRONT.unpack_from(body)
    rest = memoryview(body)[_FRONT.size :]
    if magic != MAGIC:
        raise ValueError(f"expected {MAGIC!r} at the beginning, got {magic!r}")
    if len(rest) != size:
        raise ValueError(f"expected {size} bytes, got {len(rest)}")
    if zlib.crc32(rest) != checksum:
        raise ValueError("its checksum is wrong")
    (length,) = struct.unpack_from("<I", rest)
    at = 4 + length
    record = {}
    for name, text, shape, coding, stored in _header(bytes(rest[4:at])):
        if text == BYTES:
            record[name] = _items(rest[at : at + stored], *shape)
            at += stored
            continue
        dtype, part = np.dtype(text), rest[at : at + stored]
        if coding == "raw":
            column = np.frombuffer(part, dtype).copy()
        else:
            narrow = np.dtype(coding.partition(":")[2] or dtype)
            column = _unpacked(part, narrow, math.prod(shape)).astype(dtype, copy=False)
        record[name] = column.reshape(shape)
        at += stored
    return record


def _joined(name: str, column: np.ndarray) -> bytes:
    """The sizes and items of a column of bytes."""
    items = column.tolist()
    if column.ndim != 1 or not all(isinstance(item, bytes) for item in items):
        raise ValueError(
            f"column '{name}': expected a 1D array of bytes; got objects of shape {column.shape}"
        )
    sizes = np.array([len(item) for item in items], "<u8")
    return b"".join([sizes.tobytes(), *items])


def _items(part: memoryview, count: int) -> np.ndarray:
    """The items of a column of bytes, an object array (count,)."""
    sizes = np.frombuffer(part, "<u8", count).astype(np.int64)
    ends = 8 * count + np.cumsum(sizes)
    column = np.empty(count, object)
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        column[number] = bytes(part[end - size : end])
    return column


def _narrowed(column: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds all of them; other columns unchanged."""
    if column.dtype.kind not in "iu" or column.dtype.itemsize == 1:
        return column
    low, high = int(column.min()), int(column.max())
    for size in (1, 2, 4):
        dtype = np.dtype(f"<{'u' if low >= 0 else 'i'}{size}")
        limits = np.iinfo(dtype)
        if size < column.dtype.itemsize and limits.min <= low and high <= limits.max:
            return column.astype(dtype)
    return column


def _shuffle(column: np.ndarray) -> bytes:
    """The first bytes of all items, then the second ones, and so on."""
    size = column.dtype.itemsize
    return column.view(np.uint8).reshape(-1, size).T.tobytes()


def _unpacked(packed: memoryview, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """The `count` items of a shuffled and compressed column, writable."""
    plain = imagecodecs.zstd_decode(bytes(packed), out=count * dtype.itemsize)
    planes = np.frombuffer(plain, np.uint8).reshape(dtype.itemsize, count)
    items = np.empty((count, dtype.itemsize), np.uint8)
    for place, plane in enumerate(planes):  # faster than copying the transpose
        items[:, place] = plane
    return items.reshape(-1).view(dtype)


def _header(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
