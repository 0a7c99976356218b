"""Neuroglancer's precomputed format, whose metadata list axes x, y, z.

An `info` file at the root lists the scales; a scale is a folder named after its resolution. Chunks
are counted from the voxel offset of their scale, which is the first voxel of its bounds.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.chunk_names import delete_chunks
from volflow.io.formats.containment import require_below
from volflow.io.formats.morton import chunk_bits, morton_box, morton_number
from volflow.io.formats.our_metadata import OURS, marked_info, require_intact_info
from volflow.io.formats.shard_index import index_bytes, require_whole_index
from volflow.io.formats.stored_array import ChunkedArray, Layout, Scales, open_array, tiles
from volflow.io.store import Store

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
SEGMENTATIONS = ("uint8", "uint16", "uint32", "uint64")
_BLOCK = [8, 8, 8]  # of compressed_segmentation


def scales(address: Address) -> Scales | None:
    """The number of scales, and whether volflow wrote them; None if there is no volume."""
    if Store(str(address)).read("info") is None:
        return None
    info = _info(address)
    return Scales(len(info["scales"]), OURS in info)


def open_scale(address: Address, level: int, own: bool, partial: bool = False) -> ChunkedArray:
    """Open a scale of a volume.

    A missing chunk of a volume of ours is an error; with `partial` it is zeros.

    Raises
    ------
    StorageError
        If there is no such volume or scale, or tensorstore would take its chunks for missing.
    """
    info = _info(address)
    entries = info["scales"]
    if level >= len(entries):
        keys = ", ".join(entry["key"] for entry in entries) or "none"
        raise StorageError(f"volume {address} has no scale {level} (scales: {keys})")
    scale = entries[level]
    require_below(scale.get("key"), f"scale {level}", f"volume {address}")
    if not own:
        _refuse_compressed_files(address, scale["key"])
    strict = own or (OURS in info and not partial)
    array = open_array(
        address, "neuroglancer_precomputed", "", own, strict=strict, scale_index=level
    )
    stored = array[..., 0] if _channels(info) == 0 else array
    layout = _layout(info, scale)
    kind = VerifiedShards if strict and layout.shard is not None else ChunkedArray
    return kind(address, layout, stored.T, len(entries), OURS in info)


def plan(layout: Layout, address: Address) -> Layout:
    """The layout in which a volume will be stored: encoding chosen, shard cut to the volume.

    Raises
    ------
    StorageError
        If the format cannot hold it.
    """
    dtype = layout.dtype.name
    if layout.kind == "segmentation" and dtype not in SEGMENTATIONS:
        raise StorageError(
            f"volume {address}: Neuroglancer does not display segmentations of {dtype}; "
            f"expected {', '.join(SEGMENTATIONS)}"
        )
    if dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise StorageError(f"volume {address}: expected {known} in precomputed, got {dtype}")
    packs = dtype in ("uint32", "uint64")
    encoding = layout.encoding
    if not encoding:
        packed = layout.kind == "segmentation" and packs
        encoding = "compressed_segmentation" if packed else "raw"
    fits = {
        "raw": True,
        "compressed_segmentation": packs,
        "jpeg": dtype == "uint8" and layout.channels in (0, 1, 3) and layout.kind in ("", "image"),
    }
    if not fits.get(encoding, False):
        known = ", ".join(name for name, fit in fits.items() if fit)
        raise StorageError(
            f"volume {address}: encoding '{encoding}' does not fit a {dtype} "
            f"{layout.kind or 'image'} of {layout.channels} channels (possible: {known})"
        )
    shard = _plan_shard(layout, address)
    kind = "segmentation" if layout.kind == "segmentation" else (layout.kind or "image")
    return Layout(
        layout.bounds, layout.resolution, layout.dtype, layout.channels, layout.chunk, shard,
        encoding, kind,
    )  # fmt: skip


def create_scale(address: Address, layout: Layout, scale: int) -> None:
    """Write the `info` of a new volume, or add a coarser scale to an existing one."""
    entry = scale_entry(layout)
    if scale == 0:
        info: dict[str, Any] = {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if layout.kind == "segmentation" else "image",
            "data_type": layout.dtype.name,
            "num_channels": max(1, layout.channels),
            "scales": [entry],
        }
    else:
        info = _info(address)
        if any(other["key"] == entry["key"] for other in info["scales"]):
            raise StorageError(
                f"volume {address}: a scale of {entry['key']} nm exists; expected another "
                f"resolution for scale {scale}"
            )
        info["scales"].append(entry)
    _write_info(address, info, layout.kind, layout.channels)


def add_to_info(address: Address, entries: dict[str, Any]) -> None:
    """Add entries for other programs, such as `segment_properties`, to the `info` of a volume."""
    Store(str(address)).write_json("info", {**_info(address), **entries})


def scale_folder(layout: Layout, scale: int) -> str:
    """The folder of a scale."""
    assert layout.resolution is not None
    return scale_key(layout.resolution)


def delete_scales(address: Address, scale: int, layouts: Sequence[Layout | None]) -> None:
    """Delete a scale and the coarser ones, whose layouts are given; from 0 on, the volume."""
    store, info = Store(str(address)), _info(address)
    deleted, info["scales"] = info["scales"][scale:], info["scales"][:scale]
    for entry in deleted:
        z, y, x = (float(side) for side in entry["resolution"][::-1])
        if entry["key"] != scale_key((z, y, x)):  # it could name a folder elsewhere
            raise StorageError(
                f"volume {address}: volflow did not name its scale '{entry['key']}' and does not "
                f"delete it; delete the volume or choose another path"
            )
    for entry, layout in zip(deleted, layouts, strict=True):
        delete_chunks(address, entry["key"], layout or _layout(info, entry))
    if scale:
        _write_info(address, info, info[OURS]["kind"], info[OURS]["channels"])
    else:
        store.delete("info")


def _write_info(address: Address, info: dict[str, Any], kind: str, channels: int) -> None:
    marked = marked_info(info, kind, channels, len(info["scales"]))
    Store(str(address)).write_json("info", marked)


def _info(address: Address) -> dict[str, Any]:
    body = Store(str(address)).read_json("info")
    if body is None:
        raise StorageError(f"volume {address} does not exist: no 'info' there")
    if not isinstance(body, dict) or "scales" not in body or "data_type" not in body:
        raise StorageError(f"volume {address}: expected the info of a volume, got another 'info'")
    if OURS in body:
        require_intact_info(address, body)
    return body


def _channels(info: dict[str, Any]) -> int:
    """Length of our channel axis; a foreign volume of one channel has none (0)."""
    count = int(info.get("num_channels", 1))
    return count if count > 1 else int(info.get(OURS, {}).get("channels", 0))


def _layout(info: dict[str, Any], scale: dict[str, Any]) -> Layout:
    start = zyx(scale.get("voxel_offset", [0, 0, 0])[::-1])
    stop = start + zyx(scale["size"][::-1])
    bounds, chunk = Box(start, stop), zyx(scale["chunk_sizes"][0][::-1])
    z, y, x = (float(side) for side in scale["resolution"][::-1])
    shard = None
    sharding = scale.get("sharding")
    if sharding:
        per_shard = int(sharding["preshift_bits"]) + int(sharding["minishard_bits"])
        shard = _shard_shape(bounds, chunk, per_shard)
    kind = info.get(OURS, {}).get("kind") or info.get("type", "image")
    dtype = np.dtype(info["data_type"])
    encoding = scale.get("encoding", "raw")
    return Layout(bounds, (z, y, x), dtype, _channels(info), chunk, shard, encoding, kind)


def scale_key(resolution: Resolution) -> str:
    """The name of a scale's folder, such as 8_8_40."""
    return "_".join(f"{side:.15g}" for side in resolution[::-1])


def scale_entry(layout: Layout) -> dict[str, Any]:
    """The entry of a scale in `info`."""
    assert layout.resolution is not None
    resolution = [int(side) if side == int(side) else side for side in layout.resolution[::-1]]
    entry: dict[str, Any] = {
        "key": scale_key(layout.resolution),
        "size": layout.bounds.shape[::-1],
        "resolution": resolution,
        "voxel_offset": layout.bounds.start[::-1],
        "chunk_sizes": [layout.chunk[::-1]],
        "encoding": layout.encoding,
    }
    if layout.encoding == "compressed_segmentation":
        entry["compressed_segmentation_block_size"] = _BLOCK
    if layout.shard is not None:
        entry["sharding"] = _sharding(layout)
    return json.loads(json.dumps(entry))  # type: ignore[no-any-return]  # tuples to lists


# --- shards: boxes of chunks along a Morton curve ------------------------------------------------


def _bits(bounds: Box, chunk: Triple) -> Triple:
    """Bits of the chunk numbers along z, y, x."""
    return chunk_bits(-(-bounds.shape // chunk))


def _shard_shape(bounds: Box, chunk: Triple, count: int) -> Triple:
    used = morton_box(_bits(bounds, chunk), count)
    return zyx(chunk) * zyx([1 << bits for bits in used])


def _shard_key(layout: Layout, start: Triple) -> str:
    """The key of the shard that holds the voxel `start`."""
    assert layout.resolution is not None
    bits = _bits(layout.bounds, layout.chunk)
    index = (zyx(start) - layout.bounds.start) // layout.chunk
    number = morton_number(index, bits)
    count = _chunk_bits(layout)
    digits = max(1, -(-(sum(bits) - count) // 4))
    return f"{scale_key(layout.resolution)}/{number >> count:0{digits}x}.shard"


class VerifiedShards(ChunkedArray):
    """A sharded scale of our own in which a missing shard is an error.

    tensorstore reads a missing shard as zeros even with `fill_missing_data_reads` off. So the
    index of each shard is read and checked. Shards are written as a whole, so no chunk is lost
    without its shard.
    """

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        layout = self.layout
        assert layout.shard is not None
        parts = tiles(box, layout.shard, layout.bounds.start)
        keys = {_shard_key(layout, part.start) for part in parts}
        store, sharding = Store(str(self.address)), _sharding(layout)
        try:
            indices = store.read_starts(sorted(keys), index_bytes(sharding))
            missing = keys - indices.keys()
            for key, index in indices.items():
                require_whole_index(store, key, index, sharding, store.location)
        except StorageError as error:
            raise StorageError(f"volume {self.address}, box {box}: {error}") from error
        if missing:
            raise StorageError(
                f"volume {self.address}, box {box}: a chunk is missing: "
                f"no shard {', '.join(sorted(missing))}"
            )
        voxels = super().read(box, channels, out)
        if store.remote:
            for part in tiles(box, layout.shard, layout.bounds.start):
                if not voxels[(..., *part.within(box))].any():
                    self._require_empty(part)
        return voxels

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write whole shards, also those of zeros alone, which tensorstore omits."""
        super().write(box, array)
        layout = self.layout
        assert layout.shard is not None
        for part in tiles(box, layout.shard, layout.bounds.start):
            if not array[(..., *part.within(box))].any():
                index = bytes(index_bytes(_sharding(layout)))  # minishards of no chunks
                Store(str(self.address)).write(_shard_key(layout, part.start), index)

    def _require_empty(self, part: Box) -> None:
        """Raise if a part of a shard that was read as zeros holds other numbers.

        tensorstore takes a response that ends before its first byte for a missing shard, and HTTP
        does not always report such an end. So the shard is read as an object, checked to be
        complete, and decoded from memory.
        """
        key = _shard_key(self.layout, part.start)
        place = f"memory://volflow.shards/{uuid.uuid4()}"
        copy = Store(place)
        try:
            for name in (key, "info"):
                body = Store(str(self.address)).read(name)
                copy.write(name, body or b"")
            again = open_scale(
                Address("precomputed", place), self._level(), own=False, partial=True
            ).read(part)
        except StorageError as error:
            raise StorageError(f"volume {self.address}, box {part}: {error}") from error
        finally:
            copy.delete_prefix("")
        if again.any():
            raise StorageError(
                f"volume {self.address}, box {part}: cannot be read: shard {key} was cut short"
            )

    def _level(self) -> int:
        """The number of this scale."""
        assert self.layout.resolution is not None
        keys = [entry["key"] for entry in _info(self.address)["scales"]]
        return keys.index(scale_key(self.layout.resolution))


def _plan_shard(layout: Layout, address: Address) -> Triple | None:
    """The shard cut to the volume; the error for an impossible one names the nearest."""
    if layout.shard is None:
        return None
    bits = _bits(layout.bounds, layout.chunk)
    sides = zip(layout.shard, layout.chunk, bits, strict=True)
    shard = zyx([min(s, c << b) for s, c, b in sides])
    ratios = [s / c for s, c in zip(shard, layout.chunk, strict=True)]
    count = round(sum(math.log2(max(1.0, ratio)) for ratio in ratios))
    nearest = _shard_shape(layout.bounds, layout.chunk, count)
    if shard != nearest:
        raise StorageError(
            f"volume {address}: expected a shard that is a box of chunks {layout.chunk} along the "
            f"Morton curve of this volume, got {layout.shard}; nearest: {nearest}"
        )
    return shard


def _chunk_bits(layout: Layout) -> int:
    """Bits of the chunk numbers in a shard."""
    assert layout.shard is not None
    sides = zip(layout.shard, layout.chunk, strict=True)
    return sum((s // c).bit_length() - 1 for s, c in sides)


def _sharding(layout: Layout) -> dict[str, Any]:
    count = _chunk_bits(layout)
    preshift = min(count, 9)  # up to 512 chunks share an index, which is read to find one of them
    coding = "raw" if layout.encoding == "jpeg" else "gzip"
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": preshift,
        "hash": "identity",
        "minishard_bits": count - preshift,
        "shard_bits": sum(_bits(layout.bounds, layout.chunk)) - count,
        "minishard_index_encoding": "gzip",
        "data_encoding": coding,
    }


def _refuse_compressed_files(address: Address, key: str, look_at: int = 16) -> None:
    """Raise if chunks are files `*.gz`, which tensorstore would read as zeros."""
    folder = None if address.local is None else address.local / key
    if folder is None or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(look_at), strict=False)]
    bad = _first(names, (".gz", ".br", ".zstd"))
    if bad:
        raise StorageError(
            f"volume {address}: expected chunks that are not compressed files, got {key}/{bad}; "
            f"unpack them, or write the volume with compress=False"
        )


def _first(names: Sequence[str], endings: tuple[str, ...]) -> str | None:
    return next((name for name in names if name.endswith(endings)), None)
