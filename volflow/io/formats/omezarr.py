"""Zarr 2 and 3: OME-Zarr groups, written and read; foreign groups and single arrays, read.

VOLUME/0, VOLUME/1, ...     one array per scale, axes zyx or czyx
VOLUME/.zattrs              zarr 2: OME-Zarr 0.4 multiscales, and volflow's own entry
VOLUME/zarr.json            zarr 3: the same of OME-Zarr 0.5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tensorstore as ts

from volflow.core.geometry import zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.chunk_names import ARRAY_METADATA, delete_chunks
from volflow.io.formats.containment import require_below
from volflow.io.formats.metadata.attributes import attributes_metadata
from volflow.io.formats.metadata.axes import Metadata, placed_array
from volflow.io.formats.metadata.ome import dataset_metadata, multiscale_of
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
from volflow.io.formats.zarr_python import is_codec_problem, open_with_zarr_python
from volflow.io.store import Store

ENCODINGS = ("zstd", "blosc", "gzip", "raw")
_GROUP_KEYS = {"zarr": (".zgroup", ".zattrs"), "zarr3": ("zarr.json",)}
Attributes = dict[str, Any]


def scales(address: Address) -> Scales | None:
    """The number of scales, and whether volflow wrote them; None if there is no volume."""
    if not _exists(address):
        return None
    attributes = _attributes(address)
    ours = marked_scales(attributes, address)
    if ours is not None:
        return Scales(len(ours), True)
    multiscale = multiscale_of(attributes, f"volume {address}")
    return Scales(1 if multiscale is None else len(multiscale["datasets"]), False)


def open_scale(address: Address, level: int, own: bool, partial: bool = False) -> ChunkedArray:
    """Open a scale of a group of ours, of a foreign OME-Zarr group, or a single array (level 0).

    A missing chunk of a volume of ours is an error; with `partial` it is zeros.

    Raises
    ------
    StorageError
        If there is no such volume or scale, or its axes are not (c,) z, y, x.
    """
    attributes = _attributes(address)
    ours = marked_scales(attributes, address)
    if ours is not None:
        _require_scale(address, level, len(ours))
        where = f"{_GROUP_KEYS[address.format_name][-1]} or {_array_key(address, level)}"
        metadata = Store(str(address)).read_json(_array_key(address, level))
        if metadata is not None:  # a missing one is an error of opening
            require_intact(address, ours[level], metadata, where)
        array = open_array(address, address.format_name, str(level), own, strict=not partial)
        layout = marked_layout(ours[level], array)
        stored = anchored(array, layout.bounds.start)
        return ChunkedArray(address, layout, stored, len(ours), True)
    multiscale = multiscale_of(attributes, f"volume {address}")
    if multiscale is None:
        return _open_bare(address, level, own, attributes)
    datasets = multiscale["datasets"]
    _require_scale(address, level, len(datasets))
    folder = require_below(datasets[level].get("path"), f"scale {level}", f"volume {address}")
    array, spec, warning = _open_foreign(address, folder, own)
    metadata = dataset_metadata(multiscale, level, array.rank)
    return placed_array(address, array, _warned(metadata, warning), len(datasets), spec)


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
        raise StorageError(f"volume {address}: no encoding '{encoding}' in zarr (known: {known})")
    if layout.shard is not None:
        if address.format_name == "zarr":
            raise StorageError(f"volume {address}: zarr 2 has no shards; use zarr3://")
        if any(zyx(layout.shard) % layout.chunk):
            raise StorageError(
                f"volume {address}: expected a shard of whole chunks {layout.chunk}, got "
                f"{layout.shard}"
            )
    shard = None if layout.shard == layout.chunk else layout.shard
    return replace(layout, encoding=encoding, shard=shard)


def create_scale(address: Address, layout: Layout, scale: int) -> None:
    """Create the array of a scale, then list it in the group's metadata."""
    shape = (*layout.leading, *layout.bounds.shape)
    chunk = (*layout.leading, *layout.chunk)
    if address.format_name == "zarr":
        _create_v2(address, layout, str(scale), shape, chunk)
    else:
        _create_v3(address, layout, str(scale), shape, chunk)
    finer = [] if scale == 0 else _attributes(address)[OURS]["scales"]
    metadata = Store(str(address)).read_json(_array_key(address, scale))
    _write_group(address, [*finer, mark(layout, metadata)])


def scale_folder(layout: Layout, scale: int) -> str:
    """The folder of a scale."""
    return f"{scale}"


def delete_scales(address: Address, scale: int, layouts: Sequence[Layout | None]) -> None:
    """Delete a scale and the coarser ones, whose layouts are given; from 0 on, the volume."""
    store = Store(str(address))
    entries = _attributes(address)[OURS]["scales"]
    for number, layout in enumerate(layouts, scale):
        delete_chunks(address, f"{number}", layout)
    if scale:
        _write_group(address, entries[:scale])
        return
    for key in _GROUP_KEYS[address.format_name]:
        store.delete(key)


def _array_key(address: Address, scale: int) -> str:
    """The key of the metadata of a scale's array."""
    return f"{scale}/{ARRAY_METADATA[address.format_name]}"


# --- our own arrays ------------------------------------------------------------------------------


def _create_v2(
    address: Address, layout: Layout, folder: str, shape: tuple[int, ...], chunk: tuple[int, ...]
) -> None:
    compressors: dict[str, dict[str, Any] | None] = {
        "raw": None,
        "gzip": {"id": "gzip", "level": 5},
        "zstd": {"id": "zstd", "level": 3},
        "blosc": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0},
    }
    metadata = {
        "shape": shape,
        "chunks": chunk,
        "dtype": layout.dtype.newbyteorder("<").str,
        "compressor": compressors[layout.encoding],
        "fill_value": 0 if layout.dtype.kind != "b" else False,
        "dimension_separator": "/",
    }
    create_array(address, "zarr", folder, metadata=metadata)


def _create_v3(
    address: Address, layout: Layout, folder: str, shape: tuple[int, ...], chunk: tuple[int, ...]
) -> None:
    size = layout.dtype.itemsize
    compressors: dict[str, list[dict[str, Any]]] = {
        "raw": [],
        "gzip": [_codec("gzip", level=5)],
        "zstd": [_codec("zstd", level=3)],
        "blosc": [
            _codec("blosc", cname="zstd", clevel=3, shuffle="shuffle", typesize=size, blocksize=0)
        ],
    }
    # With the checksum a changed byte is an error, whatever the encoding.
    codecs = [_codec("bytes", endian="little"), *compressors[layout.encoding], {"name": "crc32c"}]
    grid = chunk
    if layout.shard is not None:
        grid = (*layout.leading, *layout.shard)
        codecs = [_codec("sharding_indexed", chunk_shape=chunk, codecs=codecs)]
    metadata = {
        "shape": shape,
        "data_type": layout.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
        "codecs": codecs,
        "fill_value": 0 if layout.dtype.kind != "b" else False,
        "dimension_names": list("czyx")[-len(shape) :],
    }
    create_array(address, "zarr3", folder, metadata=metadata)


def _codec(name: str, **configuration: object) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def _write_group(address: Address, entries: list[dict[str, Any]]) -> None:
    store, name = Store(str(address)), address.location.rstrip("/").rpartition("/")[2]
    version = "0.4" if address.format_name == "zarr" else "0.5"
    with_channels = bool(entries[0]["channels"])
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"
    ]
    if with_channels:
        axes.insert(0, {"name": "c", "type": "channel"})
    datasets = [
        {"path": str(number), "coordinateTransformations": _transforms(entry, with_channels)}
        for number, entry in enumerate(entries)
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets}
    if version == "0.4":
        multiscale["version"] = version
        store.write_json(".zattrs", {"multiscales": [multiscale], OURS: {"scales": entries}})
        store.write_json(".zgroup", {"zarr_format": 2})  # after the mark of its owner
        return
    attributes = {
        "ome": {"version": version, "multiscales": [multiscale]},
        OURS: {"scales": entries},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    store.write_json("zarr.json", group)


def _transforms(entry: dict[str, Any], with_channels: bool) -> list[dict[str, Any]]:
    sides = [float(side) for side in entry["resolution_nm_zyx"]]
    shift = [a * side for a, side in zip(entry["offset_zyx"], sides, strict=True)]
    return [
        {"type": "scale", "scale": [1.0, *sides] if with_channels else sides},
        {"type": "translation", "translation": [0.0, *shift] if with_channels else shift},
    ]


# --- foreign groups and arrays -------------------------------------------------------------------


def _metadata_keys(format_: str) -> tuple[str, ...]:
    return ("zarr.json",) if format_ == "zarr3" else (".zgroup", ".zattrs", ".zarray")


def _exists(address: Address) -> bool:
    store = Store(str(address))
    return any(store.read(key) is not None for key in _metadata_keys(address.format_name))


def _attributes(address: Address) -> Attributes:
    store = Store(str(address))
    if address.format_name == "zarr3":
        body = store.read_json("zarr.json")
        attributes = body.get("attributes", {}) if isinstance(body, dict) else None
    else:
        attributes = store.read_json(".zattrs")
        if attributes is None and _exists(address):
            attributes = {}
    if not isinstance(attributes, dict):
        raise StorageError(f"volume {address} does not exist: no zarr group or array there")
    return attributes


def _require_scale(address: Address, level: int, count: int) -> None:
    if level >= count:
        raise StorageError(f"volume {address} has no scale {level} (it has {count})")


def _open_bare(address: Address, level: int, own: bool, attributes: Attributes) -> ChunkedArray:
    store = Store(str(address))
    if address.format_name == "zarr3":
        is_group = (store.read_json("zarr.json") or {}).get("node_type") == "group"
    else:
        is_group = store.read(".zarray") is None
    if is_group:
        raise StorageError(
            f"volume {address}: expected multiscales in the zarr group; name one of its arrays"
        )
    _require_scale(address, level, 1)
    array, spec, warning = _open_foreign(address, "", own)
    metadata = _metadata_above(address, array.rank)
    if metadata is None:
        metadata = attributes_metadata(attributes)
        labels = list(array.domain.labels)
        if any(labels):
            metadata = replace(metadata, names=labels)
    return placed_array(address, array, _warned(metadata, warning), 1, spec)


def _open_foreign(
    address: Address, folder: str, own: bool
) -> tuple[ts.TensorStore, dict[str, Any] | None, str]:
    """An array, and if zarr-python reads it, its specification and a warning."""
    try:
        return open_array(address, address.format_name, folder, own), None, ""
    except StorageError as error:
        if own or not is_codec_problem(error, address):
            raise
        return open_with_zarr_python(address, folder, error)


def _warned(metadata: Metadata, warning: str) -> Metadata:
    return replace(metadata, warnings=(warning, *metadata.warnings)) if warning else metadata


def _metadata_above(address: Address, rank: int) -> Metadata | None:
    """Metadata of the group that lists an array which was named itself, as in image.zarr/0."""
    for parent, path in parents(address):
        multiscale = multiscale_of(_attributes_above(parent), f"volume {address}")
        listed = [] if multiscale is None else multiscale["datasets"]
        for level, dataset in enumerate(listed):
            if multiscale is not None and dataset["path"].strip("/") == path:
                return dataset_metadata(multiscale, level, rank)
    return None


def _attributes_above(address: Address) -> Attributes:
    """The attributes of a folder above an array; empty if it has none, or access is denied.

    Raises
    ------
    StorageError
        If they are damaged: the array would lose its voxel size and position in silence.
    """
    key = "zarr.json" if address.format_name == "zarr3" else ".zattrs"
    try:
        exists = Store(str(address)).find(key).value is not None
    except StorageError:
        return {}
    return _attributes(address) if exists else {}
