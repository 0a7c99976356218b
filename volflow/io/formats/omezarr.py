"""Zarr 2 and 3: our own volumes are OME-Zarr groups; foreign groups and bare arrays are read.

VOLUME/0, VOLUME/1, ...     one array per scale, axes zyx or czyx
VOLUME/.zattrs              zarr 2: OME-Zarr 0.4 multiscales, and volflow's note
VOLUME/zarr.json            zarr 3: OME-Zarr 0.5
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.core.geometry import Box, Triple, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.containment import require_below
from volflow.io.formats.stored_array import (
    OURS,
    ChunkedArray,
    Layout,
    Resolution,
    Scales,
    anchored,
    create_array,
    mark,
    marked_layout,
    open_array,
    spatial_chunks,
    whole_offset,
)
from volflow.io.formats.units import OME_UNITS
from volflow.io.store import Store

ENCODINGS = ("zstd", "blosc", "gzip", "raw")
Attributes = dict[str, Any]


def scales(address: Address) -> Scales | None:
    """How many scales there are, and whether they are ours; None if there is no volume."""
    if not _exists(address):
        return None
    attributes = _attributes(address)
    ours = _our_scales(attributes)
    if ours is not None:
        return Scales(len(ours), True)
    multiscale = _multiscale(attributes)
    return Scales(1 if multiscale is None else len(multiscale["datasets"]), False)


def open_scale(address: Address, level: int, own: bool) -> ChunkedArray:
    """Open a scale: of our own group, of a foreign OME-Zarr group, or a bare array at level 0.

    Raises
    ------
    StorageError
        If there is no such volume or scale, or its axes are not understood.
    """
    attributes = _attributes(address)
    ours = _our_scales(attributes)
    if ours is not None:
        _require_scale(address, level, len(ours))
        array = open_array(address, address.format, str(level), own)
        layout = marked_layout(ours[level], array)
        stored = anchored(array, layout.bounds.start)
        return ChunkedArray(address, layout, stored, len(ours), True)
    multiscale = _multiscale(attributes)
    if multiscale is None:
        return _open_bare(address, level, own, attributes)
    datasets = multiscale["datasets"]
    _require_scale(address, level, len(datasets))
    folder = require_below(datasets[level].get("path"), f"scale {level}", f"volume {address}")
    array = open_array(address, address.format, folder, own)
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale["axes"]]
    transforms = [
        *datasets[level].get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    resolution, start = _placed(address, axes, transforms)
    view = _ordered(address, array, [str(axis["name"]).lower() for axis in axes])
    return _foreign(address, view, resolution, start, len(datasets))


def plan(layout: Layout, address: Address) -> Layout:
    """The layout as it will be stored.

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
        if address.format == "zarr":
            raise StorageError(f"volume {address}: zarr 2 has no shards; use zarr3:// instead")
        sides = zip(layout.shard, layout.chunk, strict=True)
        if any(s % c for s, c in sides):
            raise StorageError(
                f"volume {address}: shard {layout.shard} is not made of chunks {layout.chunk}"
            )
    shard = None if layout.shard == layout.chunk else layout.shard
    return replace(layout, encoding=encoding, shard=shard)


def create_scale(address: Address, layout: Layout, scale: int) -> None:
    """Create the array of a scale, then tell of it in the group's metadata."""
    shape = (*layout.leading, *layout.bounds.shape)
    chunk = (*layout.leading, *layout.chunk)
    if address.format == "zarr":
        _create_v2(address, layout, str(scale), shape, chunk)
    else:
        _create_v3(address, layout, str(scale), shape, chunk)
    finer = [] if scale == 0 else _attributes(address)[OURS]["scales"]
    _write_group(address, [*finer, mark(layout)])


def delete_scales(address: Address, scale: int) -> None:
    """Delete a scale and those after it; with scale 0 the volume."""
    store = Store(str(address))
    there = _attributes(address)[OURS]["scales"]
    for number in range(scale, len(there)):
        store.delete_prefix(f"{number}/")
    if scale:
        _write_group(address, there[:scale])
        return
    for key in _metadata_keys(address.format):
        store.delete(key)


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
    # The checksum makes a changed byte an error whatever the encoding.
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


def _write_group(address: Address, notes: list[dict[str, Any]]) -> None:
    store, name = Store(str(address)), address.location.rstrip("/").rpartition("/")[2]
    version = "0.4" if address.format == "zarr" else "0.5"
    with_channels = bool(notes[0]["channels"])
    axes: list[dict[str, str]] = [
        {"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"
    ]
    if with_channels:
        axes.insert(0, {"name": "c", "type": "channel"})
    datasets = [
        {"path": str(number), "coordinateTransformations": _transforms(note, with_channels)}
        for number, note in enumerate(notes)
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets}
    if version == "0.4":
        multiscale["version"] = version
        store.write_json(".zgroup", {"zarr_format": 2})
        store.write_json(".zattrs", {"multiscales": [multiscale], OURS: {"scales": notes}})
        return
    attributes = {"ome": {"version": version, "multiscales": [multiscale]}, OURS: {"scales": notes}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    store.write_json("zarr.json", group)


def _transforms(note: dict[str, Any], with_channels: bool) -> list[dict[str, Any]]:
    sides = [float(side) for side in note["resolution_nm_zyx"]]
    shift = [a * side for a, side in zip(note["offset_zyx"], sides, strict=True)]
    return [
        {"type": "scale", "scale": [1.0, *sides] if with_channels else sides},
        {"type": "translation", "translation": [0.0, *shift] if with_channels else shift},
    ]


# --- foreign groups and arrays -------------------------------------------------------------------


def _metadata_keys(format_: str) -> tuple[str, ...]:
    return ("zarr.json",) if format_ == "zarr3" else (".zgroup", ".zattrs", ".zarray")


def _exists(address: Address) -> bool:
    store = Store(str(address))
    return any(store.read(key) is not None for key in _metadata_keys(address.format))


def _our_scales(attributes: Attributes) -> list[dict[str, Any]] | None:
    """The notes of our own scales; None for a foreign volume."""
    note = attributes.get(OURS)
    return note["scales"] if isinstance(note, dict) and "scales" in note else None


def _attributes(address: Address) -> Attributes:
    store = Store(str(address))
    if address.format == "zarr3":
        body = store.read_json("zarr.json")
        found = body.get("attributes", {}) if isinstance(body, dict) else None
    else:
        found = store.read_json(".zattrs")
        if found is None and _exists(address):
            found = {}
    if not isinstance(found, dict):
        raise StorageError(f"volume {address} does not exist: there is no zarr group or array")
    return found


def _multiscale(attributes: Attributes) -> dict[str, Any] | None:
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if found else None


def _require_scale(address: Address, level: int, count: int) -> None:
    if level >= count:
        raise StorageError(f"volume {address} has no scale {level} (it has {count})")


def _open_bare(address: Address, level: int, own: bool, attributes: Attributes) -> ChunkedArray:
    store = Store(str(address))
    if address.format == "zarr3":
        is_group = (store.read_json("zarr.json") or {}).get("node_type") == "group"
    else:
        is_group = store.read(".zarray") is None
    if is_group:
        raise StorageError(
            f"volume {address} is a zarr group without multiscales; name one of its arrays"
        )
    _require_scale(address, level, 1)
    array = open_array(address, address.format, "", own)
    names = [label.lower() for label in array.domain.labels]
    if not all(names):
        names = list("tczyx")[-array.rank :]
    resolution, start = attributes_place(attributes, f"volume {address}")
    return _foreign(address, _ordered(address, array, names), resolution, start, 1)


def attributes_place(attributes: Any, where: str) -> tuple[Resolution | None, Triple]:
    """Resolution and first voxel from attributes as several labs write them, in nm, z y x."""
    sides = None
    for name in ("voxel_size_nm_zyx", "voxel_size", "resolution"):
        value = attributes.get(name)
        if value is not None and np.size(value) == 3:
            sides = [float(side) for side in np.ravel(value)]
            break
    if sides is None or min(sides) <= 0:
        return None, (0, 0, 0)
    resolution = (sides[0], sides[1], sides[2])
    offset = attributes.get("offset")
    if offset is None or np.size(offset) != 3:
        return resolution, (0, 0, 0)
    return resolution, whole_offset([float(a) for a in np.ravel(offset)], resolution, where)


def _placed(
    address: Address, axes: list[dict[str, Any]], transforms: list[dict[str, Any]]
) -> tuple[Resolution | None, Triple]:
    """Resolution in nm and first voxel from OME-Zarr axes and transformations."""
    scale, shift = np.ones(len(axes)), np.zeros(len(axes))
    for transform in transforms:
        if transform["type"] == "scale":
            scale, shift = scale * transform["scale"], shift * transform["scale"]
        elif transform["type"] == "translation":
            shift = shift + transform["translation"]
    place = {str(axis["name"]).lower(): number for number, axis in enumerate(axes)}
    spatial = [place[name] for name in "zyx" if name in place]
    units = [OME_UNITS.get(str(axes[number].get("unit", "")).lower()) for number in spatial]
    if len(spatial) != 3 or None in units:
        return None, (0, 0, 0)
    factors = [unit for unit in units if unit is not None]
    z, y, x = (float(scale[number]) * f for number, f in zip(spatial, factors, strict=True))
    translation = [float(shift[number]) * f for number, f in zip(spatial, factors, strict=True)]
    return (z, y, x), whole_offset(translation, (z, y, x), f"volume {address}")


def _ordered(address: Address, array: ts.TensorStore, names: list[str]) -> ts.TensorStore:
    """The array with axes (c,) z, y, x; other axes must be of length one, as a lone channel."""
    if len(names) != array.rank or any(axis not in names for axis in "zyx"):
        raise StorageError(
            f"volume {address}: axes {names} of shape {array.shape} are not (c,) z, y, x"
        )
    wanted = [names.index(axis) for axis in "zyx"]
    if "c" in names and array.shape[names.index("c")] > 1:
        wanted.insert(0, names.index("c"))
    for number, length in enumerate(array.shape):
        if number not in wanted and length != 1:
            raise StorageError(
                f"volume {address}: axis '{names[number]}' of shape {array.shape} has more than "
                f"one entry; only channels and z, y, x are read"
            )
    others = [number for number in range(array.rank) if number not in wanted]
    kept = [number for number in range(array.rank) if number in wanted]
    view = array[ts.d[others][tuple(0 for _ in others)]] if others else array
    order = [kept.index(number) for number in wanted]
    return view[ts.d[order].transpose[:]] if order != list(range(len(order))) else view


def _foreign(
    address: Address,
    view: ts.TensorStore,
    resolution: Resolution | None,
    start: Triple,
    count: int,
) -> ChunkedArray:
    chunk, shard = spatial_chunks(view)
    stop = zyx([a + n for a, n in zip(start, view.shape[-3:], strict=True)])
    channels = view.shape[0] if view.rank == 4 else 0
    dtype = np.dtype(view.dtype.numpy_dtype)
    layout = Layout(Box(start, stop), resolution, dtype, channels, chunk, shard)
    return ChunkedArray(address, layout, anchored(view, start), count, False)
