"""N5: groups of scales `s0`, `s1`, ...; metadata list the fastest axis first, and we the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.chunk_names import delete_chunks
from volflow.io.formats.metadata.axes import placed_array
from volflow.io.formats.metadata.n5 import array_metadata
from volflow.io.formats.our_metadata import (
    OURS,
    mark,
    marked_layout,
    marked_scales,
    require_intact,
)
from volflow.io.formats.stored_array import (
    ChunkedArray,
    Layout,
    Scales,
    anchored,
    create_array,
    open_array,
    parents,
)
from volflow.io.store import Store

ENCODINGS = ("zstd", "blosc", "gzip", "raw")
KEY = "attributes.json"


def scales(address: Address) -> Scales | None:
    """The number of scales, and whether volflow wrote them; None if there is no volume."""
    if Store(str(address)).read(KEY) is None:
        return None
    ours = marked_scales(_attributes(address), address)
    return Scales(1, False) if ours is None else Scales(len(ours), True)


def open_scale(address: Address, level: int, own: bool, partial: bool = False) -> ChunkedArray:
    """Open a scale of a group of ours, `sLEVEL` of a foreign one, or a single array (level 0).

    A missing chunk of a volume of ours is an error; with `partial` it is zeros.

    Raises
    ------
    StorageError
        If there is no such volume or scale.
    """
    attributes = _attributes(address)
    ours = marked_scales(attributes, address)
    if ours is not None:
        if level >= len(ours):
            raise StorageError(f"volume {address} has no scale {level} (it has {len(ours)})")
        metadata = Store(str(address)).read_json(f"s{level}/{KEY}")
        if metadata is not None:  # a missing one is an error of opening
            require_intact(address, ours[level], metadata, f"{KEY} or s{level}/{KEY}")
        array = open_array(address, "n5", f"s{level}", own, strict=not partial).T
        layout = marked_layout(ours[level], array)
        stored = anchored(array, layout.bounds.start)
        return ChunkedArray(address, layout, stored, len(ours), True)
    folder, count = "", 1
    if "dimensions" not in attributes:
        folder, count = f"s{level}", level + 1
        attributes = Store(str(address)).read_json(f"{folder}/{KEY}") or {}
    elif level:
        raise StorageError(f"volume {address} has no scale {level} (it has 1)")
    if "dimensions" not in attributes:
        raise StorageError(f"volume {address}: no N5 array in '{folder or '.'}'")
    return _foreign(address, folder, own, attributes, count)


def plan(layout: Layout, address: Address) -> Layout:
    """The layout in which a volume will be stored.

    Raises
    ------
    StorageError
        If the format cannot hold it.
    """
    encoding = layout.encoding or "zstd"
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise StorageError(f"volume {address}: no encoding '{encoding}' in n5 (known: {known})")
    if layout.shard is not None:
        raise StorageError(f"volume {address}: n5 has no shards; use zarr3:// or precomputed://")
    return replace(layout, encoding=encoding)


def create_scale(address: Address, layout: Layout, scale: int) -> None:
    """Create the array of a scale, then list it in the group's metadata."""
    compressions: dict[str, dict[str, Any]] = {
        "raw": {"type": "raw"},
        "gzip": {"type": "gzip", "level": 5},
        "zstd": {"type": "zstd", "level": 3},
        "blosc": {"type": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1},
    }
    metadata = {
        "dimensions": (*layout.leading, *layout.bounds.shape)[::-1],
        "blockSize": (*layout.leading, *layout.chunk)[::-1],
        "dataType": layout.dtype.name,
        "compression": compressions[layout.encoding],
    }
    folder = f"s{scale}"
    create_array(address, "n5", folder, metadata=metadata)
    assert layout.resolution is not None
    store = Store(str(address))
    array = store.read_json(f"{folder}/{KEY}")
    array["pixelResolution"] = {"dimensions": layout.resolution[::-1], "unit": "nm"}
    array["transform"] = {
        "axes": ["z", "y", "x"],
        "units": ["nm", "nm", "nm"],
        "scale": layout.resolution,
        "translate": [a * r for a, r in zip(layout.bounds.start, layout.resolution, strict=True)],
    }
    store.write_json(f"{folder}/{KEY}", array)
    finer = [] if scale == 0 else _attributes(address)[OURS]["scales"]
    _write_group(address, [*finer, mark(layout, array)])


def scale_folder(layout: Layout, scale: int) -> str:
    """The folder of a scale."""
    return f"s{scale}"


def delete_scales(address: Address, scale: int, layouts: Sequence[Layout | None]) -> None:
    """Delete a scale and the coarser ones, whose layouts are given; from 0 on, the volume."""
    store = Store(str(address))
    entries = _attributes(address)[OURS]["scales"]
    for number, layout in enumerate(layouts, scale):
        delete_chunks(address, f"s{number}", layout)
    if scale:
        _write_group(address, entries[:scale])
    else:
        store.delete(KEY)


def _write_group(address: Address, entries: list[dict[str, Any]]) -> None:
    finest = [float(side) for side in entries[0]["resolution_nm_zyx"]]
    factors = [
        [side / first for side, first in zip(entry["resolution_nm_zyx"], finest, strict=True)]
        for entry in entries
    ]
    body = {
        "n5": "2.0.0",
        "scales": [each[::-1] for each in factors],
        "pixelResolution": {"dimensions": finest[::-1], "unit": "nm"},
        OURS: {"scales": entries},
    }
    Store(str(address)).write_json(KEY, body)


def _attributes(address: Address) -> dict[str, Any]:
    attributes = Store(str(address)).read_json(KEY)
    if not isinstance(attributes, dict):
        raise StorageError(f"volume {address} does not exist: no {KEY} there")
    return attributes


def _foreign(
    address: Address, folder: str, own: bool, attributes: dict[str, Any], count: int
) -> ChunkedArray:
    array = open_array(address, "n5", folder, own).T
    above = [(_attributes(address), folder)] if folder else []
    for parent, path in parents(address):
        body = Store(str(parent)).read_json(KEY)
        if isinstance(body, dict):
            above.append((body, f"{path}/{folder}".rstrip("/")))
    return placed_array(address, array, array_metadata(attributes, above), count)
