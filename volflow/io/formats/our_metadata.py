"""Volflow's own entry in the metadata of its volumes, with a checksum of what it reads of them.

zarr, n5      an entry per scale: what the format has no key for, and the checksum of that and the
              metadata of the scale's array
precomputed   one entry: kind, channels, and a checksum per scale of all in `info` that concerns it

Other programs may add to the metadata: meshes, further scales, keys of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorstore as ts

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.stored_array import Layout, spatial_chunks
from volflow.io.sealed import KEY as CHECKSUM
from volflow.io.sealed import checksum

OURS = "volflow"
"""The key of the entry."""

_MARK = {"kind", "channels", "encoding", "offset_zyx", "resolution_nm_zyx"}
_INFO = ("@type", "type", "data_type", "num_channels")
_CHECKSUMS = "checksums"


def damaged(address: Address, where: str) -> StorageError:
    """The error of a volume whose metadata are no longer as volflow wrote them."""
    error = StorageError(
        f"volume {address}: {where} is damaged, or was changed: expected the metadata that volflow "
        f"wrote, by their checksum; restore the file, or delete the volume and write it again"
    )
    error.__cause__ = ValueError("wrong checksum")  # unreadable metadata, not missing ones
    return error


# --- zarr, n5 ------------------------------------------------------------------------------------


def mark(layout: Layout, metadata: Any) -> dict[str, Any]:
    """The entry of a scale, given the metadata of its array."""
    note = {
        "kind": layout.kind,
        "channels": layout.channels,
        "encoding": layout.encoding,
        "offset_zyx": layout.bounds.start,
        "resolution_nm_zyx": layout.resolution,
    }
    return {**note, CHECKSUM: checksum([note, metadata])}


def marked_scales(attributes: dict[str, Any], address: Address) -> list[dict[str, Any]] | None:
    """The entries of the scales; None for a foreign volume.

    Raises
    ------
    StorageError
        If the entry is not one of volflow's.
    """
    if OURS not in attributes:
        return None
    entry = attributes[OURS]
    scales = entry.get("scales") if isinstance(entry, dict) else None
    if not isinstance(scales, list) or not all(isinstance(note, dict) for note in scales):
        raise damaged(address, f"the entry '{OURS}' of its metadata")
    return scales


def require_intact(address: Address, note: dict[str, Any], metadata: Any, where: str) -> None:
    """Check the entry of a scale and the metadata of its array; earlier versions had no checksum.

    Raises
    ------
    StorageError
        If they are not as volflow wrote them.
    """
    content = {name: value for name, value in note.items() if name != CHECKSUM}
    expected = checksum([content, metadata])
    if content.keys() != _MARK or note.get(CHECKSUM, expected) != expected:
        raise damaged(address, where)


def marked_layout(note: dict[str, Any], array: ts.TensorStore) -> Layout:
    """The layout of a scale from its entry and its array, whose domain starts at 0."""
    chunk, shard = spatial_chunks(array)
    start, shape = zyx(note["offset_zyx"]), array.shape[-3:]
    stop = zyx(start) + zyx(shape)
    z, y, x = note["resolution_nm_zyx"]
    channels, encoding, kind = note["channels"], note["encoding"], note["kind"]
    dtype = np.dtype(array.dtype.numpy_dtype)
    return Layout(Box(start, stop), (z, y, x), dtype, channels, chunk, shard, encoding, kind)


# --- precomputed ---------------------------------------------------------------------------------


def marked_info(info: dict[str, Any], kind: str, channels: int, number: int) -> dict[str, Any]:
    """An `info` with the entry of volflow's, whose checksums cover the first `number` scales."""
    entry: dict[str, Any] = {"kind": kind, "channels": channels}
    sums = [_scale_checksum(info, entry, scale) for scale in info["scales"][:number]]
    return {**info, OURS: {**entry, _CHECKSUMS: sums}}


def require_intact_info(address: Address, info: dict[str, Any]) -> None:
    """Check the scales of an `info` of volflow's; earlier versions had no checksums.

    Scales that other programs appended have none either.

    Raises
    ------
    StorageError
        If they are not as volflow wrote them.
    """
    entry, scales = info[OURS], info["scales"]
    is_dict = isinstance(entry, dict)
    sums = entry.get(_CHECKSUMS, []) if is_dict else None
    plain = {name: value for name, value in entry.items() if name != _CHECKSUMS} if is_dict else {}
    if (
        plain.keys() != {"kind", "channels"}
        or not isinstance(sums, list)
        or not isinstance(scales, list)
        or len(sums) > len(scales)
        or [_scale_checksum(info, plain, scale) for scale in scales[: len(sums)]] != sums
    ):
        raise damaged(address, "info")


def _scale_checksum(info: dict[str, Any], entry: dict[str, Any], scale: Any) -> str:
    return checksum([{name: info.get(name) for name in _INFO}, entry, scale])
