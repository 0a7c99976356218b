"""Shards of objects by 64-bit id, as Neuroglancer's precomputed formats store them.

    entries: start, end of each minishard's index | objects | index of a minishard | ...

A shard is written as a whole, so its writer needs all of its objects and no other one. The bytes
are a function of the objects alone.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_GZIP = 31  # zlib's window bits for gzip; such a header has no time
_C1, _C2, _C3 = (np.uint32(value) for value in (0x239B961B, 0xAB0E9789, 0x38B34AE5))


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The distribution of ids over shards and minishards, by a hash of the id.

    Parameters
    ----------
    shard_bits : int
        There are `2 ** shard_bits` shards.
    minishard_bits : int
        Each has `2 ** minishard_bits` minishards, whose indices are read separately.
    encoding : str
        Of objects: `gzip` or `raw`.

    Raises
    ------
    ValueError
        If one of them is negative or both are more than 64.
    """

    shard_bits: int
    minishard_bits: int = 6
    encoding: str = "gzip"

    def __post_init__(self) -> None:
        bits = (self.shard_bits, self.minishard_bits)
        if min(bits) < 0 or sum(bits) > 64:
            raise ValueError(
                f"expected bits of shard and minishard from 0 to 64 in all; got {bits}"
            )

    @property
    def metadata(self) -> dict[str, Any]:
        """The value of `sharding` in an `info` file."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 0,
            "hash": "murmurhash3_x86_128",
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": "gzip",
            "data_encoding": self.encoding,
        }

    def shard_of(self, ids: np.ndarray) -> np.ndarray:
        """The shard of each id, uint64 (N,)."""
        if not self.shard_bits:
            return np.zeros(len(ids), np.uint64)
        shard = murmur(ids) >> np.uint64(self.minishard_bits)
        return np.asarray(shard & np.uint64((1 << self.shard_bits) - 1))

    def minishard_of(self, ids: np.ndarray) -> np.ndarray:
        """The minishard of each id within its shard, uint64 (N,)."""
        return np.asarray(murmur(ids) & np.uint64((1 << self.minishard_bits) - 1))

    def name(self, shard: int) -> str:
        """The key of a shard."""
        return f"{shard:0{max(1, -(-self.shard_bits // 4))}x}.shard"

    def shard_bytes(
        self, objects: Mapping[int, bytes], before: Mapping[int, bytes] | None = None
    ) -> bytes:
        """The bytes of a shard from all of its objects by id.

        Parameters
        ----------
        objects : mapping
        before : mapping, optional
            By id: bytes that are stored directly before an object, as they are. No index lists
            them; the object has to record their number.

        Raises
        ------
        ValueError
            If the ids are of several shards, or not of 64 bits.
        """
        wrong = [name for name in objects if not 0 <= name < 1 << 64]
        if wrong:
            raise ValueError(f"expected ids of 64 bits, 0 to 2**64 - 1; got {wrong[0]}")
        ids = np.array(sorted(objects), np.uint64)
        if len(np.unique(self.shard_of(ids))) > 1:
            raise ValueError(f"{len(ids)} ids are of more than one shard")
        minishard = self.minishard_of(ids)
        entries = np.zeros((1 << self.minishard_bits, 2), "<u8")
        parts: list[bytes] = []
        at = 0
        for number in np.unique(minishard).tolist():
            own = ids[minishard == number]
            bodies = [objects[name] for name in own.tolist()]
            if self.encoding == "gzip":
                bodies = [_packed(body) for body in bodies]
            heads = [(before or {}).get(name, b"") for name in own.tolist()]
            sizes, gaps = (np.array([len(b) for b in part], np.uint64) for part in (bodies, heads))
            index = _minishard_index(own, at, sizes, gaps)
            at += int(gaps.sum() + sizes.sum())
            entries[number] = at, at + len(index)
            at += len(index)
            parts += [*itertools.chain(*zip(heads, bodies, strict=True)), index]
        return b"".join([entries.tobytes(), *parts])


def index_of_records(
    layout: ShardLayout, ids: np.ndarray, sizes: np.ndarray
) -> tuple[bytes, bytes]:
    """The bytes of a shard before and after its objects, which are stored as they are.

    Parameters
    ----------
    layout : ShardLayout
    ids : uint64, (N,)
        By minishard, then ascending: the order of the objects.
    sizes : int64, (N,)
        Bytes of each object.
    """
    minishard = layout.minishard_of(ids)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    entries = np.zeros((1 << layout.minishard_bits, 2), "<u8")
    indices: list[bytes] = []
    at = int(ends[-1])
    for number in np.unique(minishard).tolist():
        start, stop = np.searchsorted(minishard, [number, number + 1])
        own = sizes[start:stop]
        indices.append(_minishard_index(ids[start:stop], int(ends[start]), own, np.zeros_like(own)))
        entries[number] = at, at + len(indices[-1])
        at += len(indices[-1])
    return entries.tobytes(), b"".join(indices)


def _minishard_index(ids: np.ndarray, at: int, sizes: np.ndarray, gaps: np.ndarray) -> bytes:
    """The index of objects from a place in the shard on; `gaps` are the bytes before each."""
    starts = gaps.astype(np.uint64)
    starts[0] += np.uint64(at)  # the others count from the end of the object before
    steps = np.diff(ids, prepend=np.uint64(0))
    return _packed(np.stack([steps, starts, sizes.astype(np.uint64)]).astype("<u8").tobytes())


def shard_index(
    read: Callable[[int, int], bytes], sharding: Mapping[str, Any]
) -> dict[int, tuple[int, int]]:
    """The first byte of each object of a shard, and the one after its last.

    Parameters
    ----------
    read : callable
        Returns the bytes of the shard from a first one to before a last one.
    sharding : mapping
        The value of `sharding` in an `info` file, whatever its hash.

    Raises
    ------
    ValueError
        If an index is damaged.
    """
    head = 16 << int(sharding["minishard_bits"])
    entries = np.frombuffer(read(0, head), "<u8").reshape(-1, 2).tolist()
    ranges: dict[int, tuple[int, int]] = {}
    for start, stop in entries:
        if start == stop:
            continue
        body = unpacked(
            read(head + start, head + stop), sharding.get("minishard_index_encoding", "raw")
        )
        if len(body) % 24:
            raise ValueError(f"expected 24 bytes for each object of a minishard; got {len(body)}")
        steps, gaps, sizes = np.frombuffer(body, "<u8").reshape(3, -1)
        first = head + np.cumsum(gaps) + np.cumsum(sizes) - sizes
        last = first + sizes
        for name, *place in zip(
            np.cumsum(steps).tolist(), first.tolist(), last.tolist(), strict=True
        ):
            ranges[name] = (place[0], place[1])
    return ranges


def unpacked(body: bytes, encoding: str) -> bytes:
    """The bytes of an object or index that is stored `raw` or in `gzip`.

    Raises
    ------
    ValueError
        If they are damaged, or the encoding is another one.
    """
    if encoding == "raw":
        return body
    if encoding != "gzip":
        raise ValueError(f"expected the encoding raw or gzip; got {encoding}")
    try:
        return zlib.decompress(body, _GZIP)
    except zlib.error as error:
        raise ValueError(f"{len(body)} bytes are no gzip: {error}") from error


def murmur(ids: np.ndarray) -> np.ndarray:
    """The lower 64 bits of MurmurHash3_x86_128 (seed 0) of ids as 8 little-endian bytes.

    Parameters
    ----------
    ids : uint64, (N,)

    Returns
    -------
    uint64, (N,)

    References
    ----------
    Appleby, MurmurHash3 (public domain), for a key of eight bytes: there is only a tail.
    """
    ids = np.asarray(ids, np.uint64)
    low = (ids & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    high = (ids >> np.uint64(32)).astype(np.uint32)
    with np.errstate(over="ignore"):
        length = np.uint32(8)
        h1 = _rotated(low * _C1, 15) * _C2 ^ length
        h2 = _rotated(high * _C2, 16) * _C3 ^ length
        h3 = h4 = np.full(len(ids), length, np.uint32)
        h1, h2, h3, h4 = _summed(h1, h2, h3, h4)
        h1, h2, h3, h4 = (_avalanche(word) for word in (h1, h2, h3, h4))
        h1, h2, _, _ = _summed(h1, h2, h3, h4)
    return np.asarray(h1.astype(np.uint64) | h2.astype(np.uint64) << np.uint64(32))


def _summed(h1: Any, h2: Any, h3: Any, h4: Any) -> tuple[Any, Any, Any, Any]:
    h1 = h1 + h2 + h3 + h4
    return h1, h2 + h1, h3 + h1, h4 + h1


def _rotated(word: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(word << np.uint32(bits) | word >> np.uint32(32 - bits))


def _avalanche(word: np.ndarray) -> np.ndarray:
    word = (word ^ word >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    word = (word ^ word >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return np.asarray(word ^ word >> np.uint32(16))


def _packed(body: bytes) -> bytes:
    """The bytes in gzip, whose header has no time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()
