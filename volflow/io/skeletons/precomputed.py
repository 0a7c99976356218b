"""Skeletons in Neuroglancer's precomputed format, whose axes are x, y, z.

An `info` file lists the attributes of nodes, the transform to nanometres, and the sharding if
there is any; otherwise each skeleton is a file. A skeleton is

    nodes, edges: uint32 | positions: float32 (nodes, 3) | edges: uint32 (edges, 2) | attributes
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.core.skeleton import Skeleton, from_edges
from volflow.errors import StorageError
from volflow.io.address import context, kvstore_spec
from volflow.io.reading import reading
from volflow.io.store import Store

TYPE = "neuroglancer_skeletons"
IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
RADIUS = {"id": "radius", "data_type": "float32", "num_components": 1}
_COUNTS = struct.Struct("<II")
_GZIP = b"\x1f\x8b"


def _with_imagecodecs(codec: str) -> Callable[[bytes], bytes]:
    def unpack(body: bytes) -> bytes:
        import imagecodecs  # slow, and few files need it

        return bytes(getattr(imagecodecs, codec)(body))

    return unpack


_PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".br": _with_imagecodecs("brotli_decode"),
    ".zstd": _with_imagecodecs("zstd_decode"),
    ".zst": _with_imagecodecs("zstd_decode"),
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""Unpacking by the ending of a file's name."""


def read_info(location: str) -> dict[str, Any] | None:
    """The content of `info`; None if there are no skeletons.

    Raises
    ------
    StorageError
        If it is damaged.
    """
    store = Store(location)
    if store.read("info") is None:
        return None
    info = store.read_json("info")
    if not isinstance(info, dict) or info.get("@type") != TYPE:
        return None
    transform = info.get("transform", IDENTITY)
    if len(transform) != 12:
        raise StorageError(f"{location}/info: transform: expected 12 numbers; got {len(transform)}")
    return info


def names(location: str, info: dict[str, Any]) -> list[int]:
    """The ids of the stored skeletons, ascending.

    Raises
    ------
    StorageError
        If the store cannot list its objects.
    """
    try:
        keys = Store(location).list()
        if "sharding" in info:
            shards = [key for key in keys if key.endswith(".shard")]
            Store(location).present(shards)  # tensorstore takes an empty one for a missing one
            stored = _sharded(location, info).list().result()
            return sorted(struct.unpack(">Q", key)[0] for key in stored)
    except (StorageError, ValueError, NotImplementedError) as error:
        raise StorageError(
            f"skeletons {location} cannot be listed ({error}); name them with ?ids=1,2,3"
        ) from error
    ids = set()
    for key in keys:
        stem, dot, ending = key.partition(".")
        if not stem.isdecimal():
            continue
        if dot + ending not in ("", *_PACKED):
            raise StorageError(
                f"skeletons {location}: expected files named by a number, or packed as "
                f"{', '.join(_PACKED)}; got {key}; unpack it, or name the others with ?ids=1,2,3"
            )
        ids.add(int(stem))
    return sorted(ids)


def read_bytes(location: str, info: dict[str, Any], ids: Sequence[int]) -> dict[int, bytes]:
    """The stored bytes of skeletons by id; packed files are unpacked.

    Raises
    ------
    StorageError
        If one is missing.
    """
    if "sharding" in info:
        store = _sharded(location, info)
        reading_all = [(name, store.read(struct.pack(">Q", name))) for name in ids]
        bodies = {}
        for name, future in reading_all:
            with reading(f"{location}: skeleton {name}", "skeletons"):
                result = future.result()
            if result.state == "value":
                bodies[name] = bytes(result.value)
    else:
        objects = Store(location)
        plain = objects.read_many([str(name) for name in ids])
        bodies = {int(key): _unzipped(body) for key, body in plain.items()}
        for ending, unpack in _PACKED.items():
            keys = [f"{name}{ending}" for name in ids if name not in bodies]
            for key, body in (objects.read_many(keys) if keys else {}).items():
                name = int(key.removesuffix(ending))
                bodies[name] = _unpacked(body, unpack, location, key)
                with reading(f"{location}/{key}"):
                    _require_size(bodies[name], name, info)
    missing = [name for name in ids if name not in bodies]
    if missing:
        raise StorageError(f"skeletons {location}: no skeleton {missing[0]}")
    return {name: bodies[name] for name in ids}


def decode(body: bytes, name: int, info: dict[str, Any]) -> Skeleton:
    """The skeleton in some bytes, in nanometres; radii are 0 without an attribute for them.

    Raises
    ------
    ValueError
        If the bytes are too few or too many, or do not describe a skeleton.
    """
    nodes, edges = _require_size(body, name, info)
    at = _COUNTS.size
    position = np.frombuffer(body, "<f4", 3 * nodes, at).reshape(-1, 3).astype(np.float64)
    at += 12 * nodes
    pairs = np.frombuffer(body, "<u4", 2 * edges, at).reshape(-1, 2)
    at += 8 * edges
    radius = None
    for attribute in info.get("vertex_attributes", []):
        dtype, count = _attribute(attribute)
        if attribute["id"] == "radius" and count == 1:
            radius = np.frombuffer(body, dtype, nodes, at).astype(np.float64)
        at += dtype.itemsize * count * nodes
    matrix = np.array(info.get("transform", IDENTITY), np.float64).reshape(3, 4)
    in_nm = position @ matrix[:, :3].T + matrix[:, 3]
    if radius is not None:
        # a radius has no direction: it is scaled by the cube root of the volume's factor
        radius = radius * _growth(matrix)
    return from_edges(in_nm[:, ::-1], pairs.astype(np.int64), radius, name)


def encode(skeleton: Skeleton) -> bytes:
    """The bytes of a skeleton: float32 positions and radii in nm, so steps of 0.06 nm at 1 mm."""
    position = skeleton.position[:, ::-1].astype("<f4")
    edges = skeleton.edges.astype("<u4")
    counts = _COUNTS.pack(len(position), len(edges))
    parts = (position, edges, skeleton.radius.astype("<f4"))
    return counts + b"".join(part.tobytes() for part in parts)


def info_of(sharding: dict[str, Any] | None) -> dict[str, Any]:
    """The content of `info` for skeletons as `encode` writes them, in shards or a file each."""
    info: dict[str, Any] = {"@type": TYPE, "transform": IDENTITY, "vertex_attributes": [RADIUS]}
    return info if sharding is None else {**info, "sharding": sharding}


def write(location: str, skeletons: Iterable[Skeleton], shard: bool = False) -> None:
    """Write `info` and all skeletons.

    Parameters
    ----------
    location : str
        Folder or URL.
    skeletons : iterable of Skeleton
        Each with its own id.
    shard : bool
        Write a few shards instead of a file each; all of them are held in memory.
    """
    bodies = {skeleton.name: encode(skeleton) for skeleton in skeletons}
    info = info_of(None)
    store = Store(location)
    if not shard:
        for name, body in bodies.items():
            store.write(str(name), body)
    else:
        info["sharding"] = _sharding(sum(map(len, bodies.values())), len(bodies))
        sharded, together = _sharded(location, info), ts.Transaction()
        writing = [
            sharded.with_transaction(together).write(struct.pack(">Q", name), body)
            for name, body in bodies.items()
        ]
        try:
            together.commit_async().result()
            for future in writing:
                future.result()
        except (ValueError, OSError) as error:
            raise StorageError(f"skeletons {location}: {error}") from error
    store.write_json("info", info)  # last: a reader that sees it finds all skeletons


# --- bytes ---------------------------------------------------------------------------------------


def _attribute(attribute: dict[str, Any]) -> tuple[np.dtype[Any], int]:
    return np.dtype(attribute["data_type"]).newbyteorder("<"), int(attribute["num_components"])


def _require_size(body: bytes, name: int, info: dict[str, Any]) -> tuple[int, int]:
    """The numbers of nodes and edges of a skeleton whose bytes are as many as they need.

    Raises
    ------
    ValueError
    """
    if len(body) < _COUNTS.size:
        raise ValueError(
            f"skeleton {name}: expected at least {_COUNTS.size} bytes, got {len(body)}"
        )
    nodes, edges = _COUNTS.unpack_from(body)
    expected = _size(nodes, edges, info)
    if expected != len(body):
        raise ValueError(
            f"skeleton {name}: expected {expected} bytes for {nodes} nodes and {edges} edges; "
            f"got {len(body)}"
        )
    return nodes, edges


def _size(nodes: int, edges: int, info: dict[str, Any]) -> int:
    """Bytes of a skeleton with these numbers of nodes and edges."""
    attributes = map(_attribute, info.get("vertex_attributes", []))
    per_node = 12 + sum(dtype.itemsize * count for dtype, count in attributes)
    return _COUNTS.size + per_node * nodes + 8 * edges


def _growth(matrix: np.ndarray) -> float:
    """The factor of lengths, as a mean over directions; exact if it is equal along all axes."""
    columns = np.sqrt((matrix[:, :3] ** 2).sum(axis=0))
    if np.all(columns == columns[0]):
        return float(columns[0])
    return float(math.prod(columns.tolist()) ** (1 / 3))


def _unpacked(body: bytes, unpack: Callable[[bytes], bytes], location: str, key: str) -> bytes:
    """The bytes of a packed file; a `.gz` that a store unpacked already is left as it is."""
    if key.endswith(".gz"):
        return _unzipped(body)
    try:
        return unpack(body)
    except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError) as error:
        raise StorageError(f"skeletons {location}: {key} cannot be unpacked: {error}") from error


def _unzipped(body: bytes) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    if body[:2] != _GZIP:
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return body  # a skeleton of 35,615 nodes begins with the same two bytes


# --- shards --------------------------------------------------------------------------------------


def _sharded(location: str, info: dict[str, Any]) -> Any:
    spec = {
        "driver": "neuroglancer_uint64_sharded",
        "base": kvstore_spec(location),
        "metadata": info["sharding"],
    }
    try:
        return ts.KvStore.open(spec, context=context()).result()
    except (ValueError, OSError) as error:
        raise StorageError(f"skeletons {location}: {error}") from error


def _sharding(total: int, count: int) -> dict[str, Any]:
    """Shards of about 64 MiB, minishards of about 64 skeletons."""
    shards = max(1, total >> 26)
    minishards = max(1, count // (64 * shards))
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 0,
        "hash": "murmurhash3_x86_128",
        "minishard_bits": (minishards - 1).bit_length(),
        "shard_bits": (shards - 1).bit_length(),
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }
