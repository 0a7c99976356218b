"""Meshes in Neuroglancer's multi-resolution format, whose axes are x, y, z.

A manifest lists the fragments of each level of detail; a fragment is a Draco mesh:

    chunk_shape, grid_origin: 3 float32 | levels: uint32 | scale of each level: float32
    offset of each level: 3 float32 | fragments of each level: uint32
    per level: x of all cells, y, z: uint32 | bytes of all fragments: uint32

Unsharded, `ID.index` is the manifest and `ID` all fragments, one after the other. In a shard the
fragments are stored directly before the manifest.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from volflow.core.fragmented_mesh import FragmentedMesh, MeshGrid, MeshLevel

TYPE = "neuroglancer_multilod_draco"
BITS = 16
IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
_HEADER = struct.Struct("<3f3fI")


def info_of(sharding: dict[str, Any] | None) -> dict[str, Any]:
    """The content of `info`, for meshes in shards or in two files each."""
    info: dict[str, Any] = {
        "@type": TYPE,
        "vertex_quantization_bits": BITS,
        "transform": IDENTITY,
        "lod_scale_multiplier": 1.0,
    }
    return info if sharding is None else {**info, "sharding": sharding}


def encode(mesh: FragmentedMesh) -> tuple[bytes, bytes]:
    """The manifest of a mesh, and its fragments one after the other.

    Raises
    ------
    ValueError
        If a fragment has 4 GiB or more, or the mesh has no level.
    """
    grid, count = mesh.grid, len(mesh.levels)
    if not count:
        raise ValueError(f"mesh {mesh.name}: expected at least one level of detail; got none")
    scales = np.array([grid.voxel_nm(level) for level in range(count)], "<f4")
    shifts = np.array(grid.shifts_nm[:count], "<f4").reshape(-1, 3)[:, ::-1]
    numbers = np.array([len(level.fragments) for level in mesh.levels], "<u4")
    parts = [
        _HEADER.pack(*grid.cell_nm[::-1], *grid.origin_nm[::-1], count),
        scales.tobytes(),
        shifts.tobytes(),
        numbers.tobytes(),
    ]
    fragments: list[bytes] = []
    for level in mesh.levels:
        sizes = [len(body) for body in level.fragments]
        if sizes and max(sizes) >= 1 << 32:
            raise ValueError(f"mesh {mesh.name}: a fragment has {max(sizes)} bytes, beyond 4 GiB")
        parts += [level.cells[:, ::-1].T.astype("<u4").tobytes(), np.array(sizes, "<u4").tobytes()]
        fragments += level.fragments
    return b"".join(parts), b"".join(fragments)


def decode(name: int, manifest: bytes, fragments: bytes) -> FragmentedMesh:
    """The mesh in a manifest and its fragments; inverse of `encode`.

    Raises
    ------
    ValueError
        If the bytes are too few or too many.
    """
    if len(manifest) < _HEADER.size:
        raise ValueError(
            f"mesh {name}: expected at least {_HEADER.size} bytes; got {len(manifest)}"
        )
    *numbers, count = _HEADER.unpack_from(manifest)
    at = _HEADER.size
    _require_bytes(name, len(manifest), at + 20 * count)
    at += 4 * count  # scales
    shifts = np.frombuffer(manifest, "<f4", 3 * count, at).reshape(-1, 3)[:, ::-1]
    at += 12 * count
    lengths = np.frombuffer(manifest, "<u4", count, at).tolist()
    at += 4 * count
    _require_bytes(name, len(manifest), at + 16 * sum(lengths))
    levels, start = [], 0
    for length in lengths:
        cells = np.frombuffer(manifest, "<u4", 3 * length, at).reshape(3, -1).T[:, ::-1]
        at += 12 * length
        sizes = np.frombuffer(manifest, "<u4", length, at).tolist()
        at += 4 * length
        bodies = []
        for size in sizes:
            bodies.append(fragments[start : start + size])
            start += size
        levels.append(MeshLevel(cells.astype(np.int64), tuple(bodies)))
    if at != len(manifest) or start != len(fragments):
        raise ValueError(
            f"mesh {name}: expected {at} bytes of manifest and {start} of fragments; got "
            f"{len(manifest)} and {len(fragments)}"
        )
    x, y, z, ox, oy, oz = numbers
    by_level = tuple((sz, sy, sx) for sz, sy, sx in shifts.astype(np.float64).tolist())
    grid = MeshGrid((oz, oy, ox), (z, y, x), 1, by_level)
    return FragmentedMesh(name, grid, tuple(levels))


def fragment_bytes(name: int, manifest: bytes) -> int:
    """The number of bytes of all fragments that a manifest lists."""
    if len(manifest) < _HEADER.size:
        raise ValueError(
            f"mesh {name}: expected at least {_HEADER.size} bytes; got {len(manifest)}"
        )
    count = _HEADER.unpack_from(manifest)[-1]
    at = _HEADER.size + 16 * count
    _require_bytes(name, len(manifest), at + 4 * count)
    total = 0
    lengths = np.frombuffer(manifest, "<u4", count, at).tolist()
    at += 4 * count
    _require_bytes(name, len(manifest), at + 16 * sum(lengths))
    for length in lengths:
        total += int(np.frombuffer(manifest, "<u4", length, at + 12 * length).sum(dtype=np.int64))
        at += 16 * length
    return total


def _require_bytes(name: int, actual: int, expected: int) -> None:
    if actual < expected:
        raise ValueError(f"mesh {name}: expected at least {expected} bytes; got {actual}")
