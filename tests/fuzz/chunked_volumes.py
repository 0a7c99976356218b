"""Volumes of chunks: zarr 2 and 3 by zarr-python, n5 and precomputed by tensorstore."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from tests.fuzz.damage import Damage
from tests.fuzz.kind import (
    METADATA,
    SHARD_INDEX,
    TOLD,
    VOXELS,
    Content,
    Kind,
    is_shard_index,
    read_volume,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import numcodecs
    import zarr

SHAPE, CHUNK = (8, 12, 14), (4, 6, 7)
NAMES = ("info", ".zarray", ".zattrs", ".zgroup", "zarr.json", "attributes.json")
UNUSED = "a file that a reader may miss"
LABELS = np.random.default_rng(0).integers(1, 2**40, SHAPE, dtype=np.uint64)
LABELS[LABELS % 3 == 0] = 7


def image(dtype: str = "uint16") -> np.ndarray:
    """Voxels of an image, none of them 0."""
    z, y, x = np.indices(SHAPE)
    return (20 + 7 * z + 3 * y + 2 * x).astype(dtype)


def _read(place: str, folder: Path, intact: Content | None) -> dict[str, Any]:
    return read_volume(place.format(folder), intact)


def _unknowable(checked: bool, damage: Damage, warnings: tuple[str, ...]) -> str:
    """The reason for chunks with a checksum, or without.

    A chunk may be missing, and so may attributes; but a warning has to report a chunk.
    """
    if damage.name in NAMES:
        return METADATA
    if is_shard_index(damage, 2):
        return SHARD_INDEX
    if damage.how == "deleted":
        return TOLD if any("missing" in each for each in warnings) else ""
    return "" if checked else VOXELS


def _kind(name: str, make: Callable[[Path], None], place: str, *, checked: bool = False) -> Kind:
    read, unknowable = partial(_read, place), partial(_unknowable, checked)
    return Kind(name, make, read, unknowable, by_folder=True, weight=3)


# --- zarr ----------------------------------------------------------------------------------------


def _zarr(version: int, folder: Path, attributes: bool = True, **options: Any) -> None:
    array = zarr.create_array(
        str(folder / "v.zarr"), shape=SHAPE, chunks=options.pop("chunks", CHUNK), dtype="uint16",
        zarr_format=version, **options,
    )  # fmt: skip
    array[...] = image()
    if attributes:
        size = {"voxel_size": [40.0, 8.0, 8.0], "offset": [80.0, 0.0, 0.0], "units": "nm"}
        array.attrs.update(size)


def _ome(version: int, folder: Path) -> None:
    group = zarr.open_group(str(folder / "v.zarr"), mode="w", zarr_format=version)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    datasets = []
    for level, side in enumerate((8.0, 16.0)):
        voxels = image()[:: 2**level, :: 2**level, :: 2**level]
        array = group.create_array(str(level), shape=voxels.shape, chunks=CHUNK, dtype="uint16")
        array[...] = voxels
        shift = [80.0 + (side - 8) / 2, (side - 8) / 2, (side - 8) / 2]
        moves = [
            {"type": "scale", "scale": [side] * 3},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": moves})
    multiscale = {"axes": axes, "datasets": datasets}
    if version == 2:
        group.attrs.update({"multiscales": [{**multiscale, "version": "0.4"}]})
    else:
        group.attrs.update({"ome": {"version": "0.5", "multiscales": [multiscale]}})


# --- n5 and precomputed --------------------------------------------------------------------------


_N5_OPTIONS = {"blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1}}


def _n5(compression: str, folder: Path) -> None:
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{folder}/v.n5/"},
        "metadata": {
            "dimensions": SHAPE[::-1],
            "blockSize": CHUNK[::-1],
            "dataType": "uint16",
            "compression": {"type": compression, **_N5_OPTIONS.get(compression, {})},
        },
    }
    ts.open(spec, create=True).result()[...] = image().T
    path = folder / "v.n5/attributes.json"
    body = json.loads(path.read_text())
    body["pixelResolution"] = {"dimensions": [8.0, 8.0, 40.0], "unit": "nm"}
    path.write_text(json.dumps(body))


def _precomputed(folder: Path, encoding: str, sharded: bool = False) -> None:
    labels = encoding == "compressed_segmentation"
    scale: dict[str, Any] = {
        "key": "8_8_40",
        "size": SHAPE[::-1],
        "resolution": [8, 8, 40],
        "voxel_offset": [14, 6, 0],
        "chunk_size": CHUNK[::-1],
        "encoding": encoding,
    }
    if labels:
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    if sharded:
        scale["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": 1,
            "minishard_bits": 1,
            "shard_bits": 1,
            "data_encoding": "gzip",
            "minishard_index_encoding": "gzip",
        }
    voxels = LABELS if labels else image("uint8" if encoding == "jpeg" else "uint16")
    kind = "segmentation" if labels else "image"
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder}/v/"},
        "multiscale_metadata": {"data_type": str(voxels.dtype), "num_channels": 1, "type": kind},
        "scale_metadata": scale,
    }
    with ts.Transaction() as transaction:
        array = ts.open(spec, create=True, transaction=transaction).result()
        array[...] = voxels.T[..., None]


def _plain(version: int, **options: Any) -> Callable[[Path], None]:
    return partial(_zarr, version, **options)


GZIP2, GZIP3 = numcodecs.GZip(), zarr.codecs.GzipCodec()
CRC = zarr.codecs.Crc32cCodec()
SHARDED3 = _plain(3, compressors=[GZIP3], shards=(8, 12, 7))

CHUNKED_VOLUMES = [
    _kind("zarr2 raw", _plain(2, compressors=None), "{}/v.zarr"),
    _kind("zarr2 blosc", _plain(2, compressors=numcodecs.Blosc()), "{}/v.zarr"),
    _kind("zarr2 zstd", _plain(2, compressors=numcodecs.Zstd()), "{}/v.zarr"),
    _kind("zarr2 gzip", _plain(2, compressors=GZIP2), "{}/v.zarr", checked=True),
    _kind("zarr2 lz4", _plain(2, compressors=numcodecs.LZ4()), "{}/v.zarr"),
    _kind("zarr3 raw", _plain(3, compressors=None), "{}/v.zarr"),
    _kind("zarr3 crc32c", _plain(3, compressors=[CRC]), "{}/v.zarr", checked=True),
    _kind("zarr3 zstd", _plain(3), "{}/v.zarr"),
    _kind("zarr3 sharded", SHARDED3, "{}/v.zarr", checked=True),
    _kind("ome-zarr 0.4", partial(_ome, 2), "{}/v.zarr"),
    _kind("ome-zarr 0.4, an array", partial(_ome, 2), "{}/v.zarr/0"),
    _kind("ome-zarr 0.5", partial(_ome, 3), "{}/v.zarr"),
    _kind("n5 raw", partial(_n5, "raw"), "{}/v.n5"),
    _kind("n5 gzip", partial(_n5, "gzip"), "{}/v.n5", checked=True),
    _kind("n5 blosc", partial(_n5, "blosc"), "{}/v.n5"),
    _kind("precomputed raw", partial(_precomputed, encoding="raw"), "precomputed://{}/v"),
    _kind("precomputed jpeg", partial(_precomputed, encoding="jpeg"), "precomputed://{}/v"),
    _kind(
        "precomputed compressed_segmentation",
        partial(_precomputed, encoding="compressed_segmentation"),
        "precomputed://{}/v",
    ),
    _kind(
        "precomputed sharded",
        partial(_precomputed, encoding="raw", sharded=True),
        "precomputed://{}/v",
        checked=True,
    ),
]  # fmt: skip
