"""Scales of volumes that volflow writes: created, reused if equal, or deleted and created again.

Nothing is deleted that volflow did not write: the metadata of its volumes have its mark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, Address
from volflow.io.formats.chunk_names import ARRAY_METADATA, ours, require_free
from volflow.io.formats.detect import CHUNKED_FORMATS, with_format
from volflow.io.formats.stored_array import Layout, Scales
from volflow.io.store import Store


def writable_address(path: str) -> Address:
    """The address of a volume to be written, with its format.

    Raises
    ------
    StorageError
        If its format is only read.
    """
    address = with_format(path, new=True)
    if address.format_name not in CHUNKED:
        raise StorageError(f"volume {address}: {address.format_name} is only read, never written")
    return address


def planned_layout(
    address: Address,
    spec: VolumeSpec,
    layer: Layer,
    bounds: Box,
    resolution: Resolution,
    chunk: Triple,
) -> Layout:
    """The layout in which a volume will be stored.

    Raises
    ------
    StorageError
        If its format cannot hold it.
    """
    sides = zyx(spec.chunk or chunk)
    if spec.shard is None:  # a shard is counted in chunks, so those keep their shape
        sides = sides.minimum(bounds.shape)
    z, y, x = (float(side) for side in resolution)
    layout = Layout(
        bounds=bounds,
        resolution=(z, y, x),
        dtype=np.dtype(layer.dtype),
        channels=layer.channels or 0,
        chunk=sides,
        shard=spec.shard,
        encoding=spec.encoding or "",
        kind=layer.kind,
    )
    stored: Layout = CHUNKED_FORMATS[address.format_name].plan(layout, address)
    return stored


def create_scale(
    address: Address, layout: Layout, scale: int, before_deletion: Callable[[], None] | None
) -> bool:
    """Create a scale, unless an equal one exists; False if one does.

    Another one of volflow's is deleted first, together with coarser scales. The data are deleted
    before the metadata that list them, and the owner before both, so that a driver that dies in
    between leaves nothing that a later one takes for complete. A note at the volume marks a scale
    that is being created, so that metadata of an array that such a driver left count as ours.

    Raises
    ------
    StorageError
        If a finer scale is missing, a foreign volume or a foreign file is in the way, or the store
        fails.
    """
    module = CHUNKED_FORMATS[address.format_name]
    existing = require_ours(address)
    count = 0 if existing is None else existing.number
    if scale > count:
        raise StorageError(f"volume {address}: scale {scale} needs scale {scale - 1} first")
    store, note = Store(str(address)), f"volflow.creating.{scale}.json"
    metadata = ARRAY_METADATA.get(address.format_name)
    unfinished = metadata is not None and store.read(note) is not None
    if scale < count and not unfinished and _stored_layout(address, scale) == layout:
        return False
    layouts = [_stored_layout(address, number) for number in range(scale, count)]
    folder = module.scale_folder(layout, scale)
    replaced = [
        ours(address, old)
        for number, old in enumerate(layouts, scale)
        if old is None or module.scale_folder(old, number) == folder
    ]
    require_free(
        address,
        folder,
        layout,
        lambda name: (unfinished and name == metadata) or any(old(name) for old in replaced),
    )
    if before_deletion is not None:
        before_deletion()
    _delete_owners(address, range(scale, max(count, scale + 1)))
    if layouts:
        module.delete_scales(address, scale, layouts)
    if metadata is None:
        module.create_scale(address, layout, scale)
        return True
    store.write_json(note, {"scale": scale})
    if unfinished:
        store.delete(f"{folder}/{metadata}")
    try:
        module.create_scale(address, layout, scale)
    except StorageError:
        with contextlib.suppress(StorageError):
            if store.read(f"{folder}/{metadata}") is None:
                store.delete(note)
        raise
    store.delete(note)
    return True


def delete_volume(address: Address) -> None:
    """Delete a volume that volflow wrote; other files at its address stay.

    Raises
    ------
    StorageError
        If volflow did not write it, or the store fails.
    """
    existing = require_ours(address)
    if existing is not None:
        _delete_owners(address, range(existing.number))
        layouts = [_stored_layout(address, number) for number in range(existing.number)]
        CHUNKED_FORMATS[address.format_name].delete_scales(address, 0, layouts)


def _delete_owners(address: Address, scales: range) -> None:
    store = Store(str(address))
    for scale in scales:
        store.delete(f"volflow.owner.{scale}.json")


def _stored_layout(address: Address, scale: int) -> Layout | None:
    """The layout of a scale according to our metadata; None if a part of those is missing.

    A failing store and unreadable metadata are errors, not a reason to delete voxels.
    """
    try:
        layout: Layout = (
            CHUNKED_FORMATS[address.format_name].open_scale(address, scale, True).layout
        )
    except StorageError as error:
        if error.__cause__ is None or "NOT_FOUND" in str(error.__cause__):
            return None
        raise
    return layout


def require_ours(address: Address) -> Scales | None:
    """The scales that exist at an address; None if there is no volume.

    Raises
    ------
    StorageError
        If volflow did not write the volume there.
    """
    for name, module in CHUNKED_FORMATS.items():
        if name != address.format_name:
            other = module.scales(Address(name, address.location, address.query))
            if other is not None and not other.ours:
                raise _refused(Address(name, address.location, address.query))
    existing: Scales | None = CHUNKED_FORMATS[address.format_name].scales(address)
    if existing is not None and not existing.ours:
        raise _refused(address)
    return existing


def _refused(address: Address) -> StorageError:
    return StorageError(
        f"volume {address} was not written by volflow and will not be replaced; "
        f"delete it or choose another path"
    )
