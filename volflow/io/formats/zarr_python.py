"""Zarr arrays with codecs that tensorstore lacks, read by zarr-python and numcodecs.

Only codecs that change numbers and bytes are used: others, such as pickle, could run code.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorstore as ts

from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.store import Store

HARMLESS = (
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits",
    "quantize", "sharding_indexed", "shuffle", "transpose", "zlib", "zstd",
)  # fmt: skip


def open_with_zarr_python(
    address: Address, folder: str, reason: StorageError
) -> tuple[ts.TensorStore, dict[str, Any], str]:
    """Open an array that tensorstore refused; read in the same way as its own arrays.

    Parameters
    ----------
    address : Address
        Of the volume.
    folder : str
        Of the array, below the address.
    reason : StorageError
        The error of tensorstore.

    Returns
    -------
    TensorStore, dict, str
        The array, the specification by which its chunks are named, and a warning for the plan.

    Raises
    ------
    StorageError
        `reason` itself if the array has no codecs that zarr-python may read.
    """
    key = f"{folder}/" if folder else ""
    metadata = Store(str(address)).read_json(
        key + ("zarr.json" if address.format_name == "zarr3" else ".zarray")
    )
    codecs = _codecs(metadata)
    plain = [name.removeprefix("numcodecs.").lower() for name in codecs]
    if address.local is None or not codecs or not set(plain) <= set(HARMLESS):
        raise reason
    array = _open(address.local / folder, address, reason)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    if dtype.kind not in "biuf":
        raise reason

    def read(domain: ts.IndexDomain, out: Any, _: Any) -> None:
        try:
            out[...] = np.asarray(array[domain.index_exp])
        except Exception as error:  # of as many kinds as there are codecs
            raise RuntimeError(f"zarr-python: {type(error).__name__}: {error}") from error

    chunk = getattr(array, "shards", None) or array.chunks
    view = ts.virtual_chunked(
        read,
        dtype=dtype.name,
        shape=array.shape,
        chunk_layout=ts.ChunkLayout(chunk_shape=chunk),
    )
    labels = _labels(metadata, array.ndim)
    if any(labels):
        view = view[ts.d[:].label[tuple(labels)]]
    spec = {
        "driver": address.format_name,
        "kvstore": {"driver": "file", "path": f"{address.local / folder}/"},
        "metadata": metadata,
    }
    names = ", ".join(codecs)
    return view, spec, f"tensorstore lacks a codec of {names}; read by zarr-python, which is slower"


def _codecs(metadata: Any) -> list[str]:
    """The names of the codecs in the metadata of an array."""
    if not isinstance(metadata, dict):
        return []
    if "codecs" in metadata:
        entries, key = metadata["codecs"], "name"
    else:
        entries, key = [metadata.get("compressor"), *(metadata.get("filters") or [])], "id"
    entries = [entry for entry in entries if entry]
    if not all(isinstance(entry, dict) for entry in entries):
        return []
    names = [str(entry.get(key, "")) for entry in entries]
    inner = [entry.get("configuration", {}) for entry in entries]
    for each in inner:
        if isinstance(each, dict) and "codecs" in each:
            names += _codecs({"codecs": each["codecs"]})
            names += _codecs({"codecs": each.get("index_codecs", [])})
    return names


def _labels(metadata: Any, rank: int) -> list[str]:
    names = metadata.get("dimension_names") or [None] * rank
    return [str(name or "") for name in names]


def _open(path: Any, address: Address, reason: StorageError) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # codecs outside the specification of zarr 3
            import numcodecs.zarr3  # type: ignore[import-untyped]  # noqa: F401  # registers codecs
            import zarr

            return zarr.open_array(str(path), mode="r")
    except Exception as error:  # of as many kinds as there are codecs
        raise StorageError(f"{reason}; zarr-python: {type(error).__name__}: {error}") from error


def is_codec_problem(reason: StorageError, address: Address) -> bool:
    """Whether tensorstore refused an array for a codec that it lacks."""
    text = json.dumps(str(reason))
    lacks = "is not registered" in text or "filters are not supported" in text
    return address.format_name in ("zarr", "zarr3") and lacks
