"""A volume, opened: `read(box)` and `write(box, array)` in absolute voxels z, y, x.

Whatever the format, channels come first, boxes are half-open, and what lies outside the bounds
reads as fill. Formats that are only read are in `stacks`; how foreign numbers become ours is in
`conversion`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, Address
from volflow.io.formats import n5, omezarr, precomputed
from volflow.io.formats.conversion import aligned, conversion
from volflow.io.formats.files.open_file import file_format, open_file
from volflow.io.formats.stored_array import Layout, Resolution, Scales, StoredArray
from volflow.io.indexing import Index, indexed_box
from volflow.io.store import Store

_FORMATS: dict[str, ModuleType] = {
    "precomputed": precomputed,
    "zarr": omezarr,
    "zarr3": omezarr,
    "n5": n5,
}
_SUFFIXES = {".zarr": "zarr", ".zarr3": "zarr3", ".n5": "n5", ".precomputed": "precomputed"}


class Volume:
    """One scale of a volume; made by `Volume.open` or `Volume.create`.

    Attributes
    ----------
    address : str
        Where it is, with its format.
    bounds : Box
        Voxels of this scale.
    resolution : tuple of float or None
        Nanometres per voxel, z y x, if anybody knows.
    dtype : np.dtype
        Of what is read; `stored_dtype` is that of what is stored.
    channels : int
        Length of the channel axis, 0 if there is none.
    chunk, shard : Triple, Triple or None
        What is stored as one object.
    scales : int
        How many scales the volume has.
    """

    def __init__(self, spec: VolumeSpec, own: bool, address: Address, voxels: StoredArray) -> None:
        self.spec, self.own, self._voxels = spec, own, voxels
        self.address, self.format = str(address), address.format
        layout = voxels.layout
        self._conversion = conversion(spec, layout, own)
        self._shift: Triple = (0, 0, 0)
        self.resolution: Resolution | None = layout.resolution
        if not own:
            self.resolution = spec.resolution or layout.resolution
            if spec.offset is not None:
                z, y, x = (a - b for a, b in zip(spec.offset, layout.bounds.start, strict=True))
                self._shift = (z, y, x)
        self.bounds = layout.bounds.shift(self._shift)
        self.stored_dtype, self.dtype = layout.dtype, self._conversion.dtype
        self.channels, self.kind = self._conversion.channels, layout.kind
        self.chunk, self.shard, self.encoding = layout.chunk, layout.shard, layout.encoding
        self.scales = voxels.scales

    @classmethod
    def open(cls, spec: VolumeSpec, *, own: bool = False) -> Volume:
        """Open the scale `spec.level` of a volume.

        Parameters
        ----------
        spec : VolumeSpec
            Where it is and what its numbers mean.
        own : bool
            Written by this run: it can be written, a chunk that it lacks is an error and not
            zeros, and its metadata alone says where its voxels are.

        Raises
        ------
        StorageError
            If it is not there, or not what its address or declaration says.
        """
        address = _with_format(spec)
        if address.format in CHUNKED:
            voxels = _opened(address, spec.level, own)
        elif own:
            raise StorageError(f"volume {address}: {address.format} is only read, never written")
        else:
            voxels = open_file(address, spec.level)
        return cls(spec, own, address, voxels)

    @classmethod
    def create(
        cls,
        spec: VolumeSpec,
        layer: Layer,
        bounds: Box,
        resolution: Resolution,
        chunk: Triple,
        scale: int = 0,
        forget: Callable[[], None] | None = None,
    ) -> tuple[Volume, bool]:
        """Create a scale of a volume, or keep the one that is there if it is the same.

        A scale of ours that is another is deleted first, with the coarser ones made from it.

        Parameters
        ----------
        spec : VolumeSpec
            Address, encoding and shard.
        layer : Layer
            dtype, channels and kind.
        bounds, resolution : Box, tuple of float
            In voxels and nanometres of this scale.
        chunk : Triple
            Unless `spec.chunk` says otherwise; cut to the bounds.
        scale : int
            0, or the number of scales that are there.
        forget : function, optional
            Called before anything that is there is deleted.

        Returns
        -------
        Volume, bool
            The volume, opened as our own, and whether it is new.

        Raises
        ------
        StorageError
            If the format cannot hold it, a finer scale is missing, a volume is in the way that
            volflow did not write, or the store does not tell what is there.
        """
        address = _with_format(spec, new=True)
        if address.format not in CHUNKED:
            raise StorageError(f"volume {address}: {address.format} is only read, never written")
        if bounds.size == 0:
            raise StorageError(f"volume {address}: there are no voxels in its bounds {bounds}")
        own = spec.model_copy(update={"path": str(address), "level": scale})
        module = _FORMATS[address.format]
        wanted = module.plan(_layout(spec, layer, bounds, resolution, chunk), address)
        open_cached.cache_clear()
        if _is_kept(module, address, wanted, scale, forget or (lambda: None)):
            return cls.open(own, own=True), False
        module.create_scale(address, wanted, scale)
        return cls.open(own, own=True), True

    @classmethod
    def refusal(
        cls, spec: VolumeSpec, layer: Layer, bounds: Box, resolution: Resolution, chunk: Triple
    ) -> str:
        """Why `create` would refuse a new volume; empty if it would not. Writes nothing."""
        try:
            address = _with_format(spec, new=True)
            if address.format not in CHUNKED:
                return f"volume {address}: {address.format} is only read, never written"
            module = _FORMATS[address.format]
            module.plan(_layout(spec, layer, bounds, resolution, chunk), address)
            _scales_of_ours(module, address)
        except StorageError as error:
            return str(error)
        return ""

    def read(self, box: Box, fill: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """Read any box, also one that is empty or reaches out of the volume.

        Parameters
        ----------
        box : Box
            In absolute voxels of this scale.
        fill : int
            What lies outside the bounds.
        out : array, optional
            Where to read it to, of the shape and dtype that is returned; default: a new one.

        Returns
        -------
        array, (Z, Y, X) or (C, Z, Y, X), of `dtype`; C-contiguous if it is a new one

        Raises
        ------
        StorageError
            If what is stored is damaged or, of our own, missing.
        """
        z, y, x = self._shift
        try:
            return self._conversion.read(self._voxels, box.shift((-z, -y, -x)), fill, out)
        except StorageError as error:
            if self.address in str(error):
                raise
            raise StorageError(f"volume {self.address}: {error}") from error

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write a box of whole chunks (of a sharded volume: whole shards).

        Parameters
        ----------
        box : Box
            In absolute voxels, within the bounds; it starts and stops on borders of chunks or
            at the end of the bounds.
        array : array, (Z, Y, X) or (C, Z, Y, X), of `dtype`

        Raises
        ------
        ValueError
            If shape or dtype is another.
        StorageError
            If the box is not whole chunks within the bounds, or the store refuses.
        """
        if not self.own:
            raise StorageError(f"volume {self.address} was opened for reading")
        wanted = (*self._conversion.leading, *box.shape)
        if array.shape != wanted:
            raise ValueError(
                f"volume {self.address}: box {box} wants an array of shape {wanted}; "
                f"got {array.shape}"
            )
        if array.dtype != self.dtype:
            raise ValueError(f"volume {self.address} holds {self.dtype}; got {array.dtype}")
        if box.size == 0:
            return
        if not self.bounds.covers(box):
            raise StorageError(f"volume {self.address}: box {box} leaves its bounds {self.bounds}")
        unit, name = (self.chunk, "chunks") if self.shard is None else (self.shard, "shards")
        if not aligned(box, self.bounds, unit):
            raise StorageError(
                f"volume {self.address}: box {box} is not made of whole {name} of {unit} "
                f"that count from {self.bounds.start}, so two writers could touch one"
            )
        self._voxels.write(box, array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole volume: (Z, Y, X), or (C, Z, Y, X) with channels."""
        return (*self._conversion.leading, *self.bounds.shape)

    def __getitem__(self, index: Index) -> np.ndarray:
        """Voxels as an array, by absolute voxel: `volume[100:164, 0:512, 0:512]`, `volume[...]`.

        See `volflow.io.indexing.indexed_box` for what an index may be.
        """
        box, picks = indexed_box(index, self.bounds, self.channels)
        return self.read(box)[picks]

    __iter__ = None
    """Not iterable: voxels are absolute, so there may be no index 0 to begin with."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All voxels, for `numpy.asarray(volume)`."""
        return np.asarray(self[...], dtype)

    def verify(self) -> None:
        """Check, from headers alone, that every part of the volume can be read.

        For a folder of sections this reads one header per section.

        Raises
        ------
        StorageError
            If a section differs from the others in size or type.
        """
        self._voxels.verify()

    def identity(self) -> dict[str, Any]:
        """What the voxels read from it depend on, as JSON: for digests."""
        spec = self.spec
        return {
            "address": self.address,
            "level": spec.level,
            "dtype": str(self.stored_dtype),
            "channels": self._voxels.layout.channels,
            "bounds": str(self.bounds),
            "resolution": self.resolution,
            "read": None
            if self.own
            else [spec.channels, spec.offset_sign, spec.scale, spec.boundary],
            "version": spec.version,
        }

    def describe(self) -> dict[str, Any]:
        """All that is known of it, as JSON."""
        return {
            **self.identity(),
            "format": self.format,
            "kind": self.kind,
            "chunk": self.chunk,
            "shard": self.shard,
            "encoding": self.encoding,
            "scales": self.scales,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.spec, self.own)

    def __repr__(self) -> str:
        return f"<Volume {self.address} {self.bounds} {self.dtype} {self.shape}>"


@lru_cache(maxsize=64)
def open_cached(spec: VolumeSpec, own: bool) -> Volume:
    """Open a volume once per process."""
    return Volume.open(spec, own=own)


def _reopen(spec: VolumeSpec, own: bool) -> Volume:
    return Volume.open(spec, own=own)


def _layout(
    spec: VolumeSpec, layer: Layer, bounds: Box, resolution: Resolution, chunk: Triple
) -> Layout:
    dz, dy, dx = spec.chunk or chunk
    if spec.shard is None:  # a shard is counted in chunks, so those keep their shape
        dz, dy, dx = (min(c, n) for c, n in zip((dz, dy, dx), bounds.shape, strict=True))
    rz, ry, rx = (float(side) for side in resolution)
    dtype, channels = np.dtype(layer.dtype), layer.channels or 0
    return Layout(
        bounds, (rz, ry, rx), dtype, channels, (dz, dy, dx), spec.shard,
        spec.encoding or "", layer.kind,
    )  # fmt: skip


def _is_kept(
    module: ModuleType, address: Address, wanted: Layout, scale: int, forget: Callable[[], None]
) -> bool:
    """Whether the scale is there as expected; one of ours that is another is deleted.

    What is deleted goes before the metadata that tells of it, and the owner before both, so that
    a driver that dies in between leaves nothing that a later one takes for good.
    """
    there = _scales_of_ours(module, address)
    count = 0 if there is None else there.number
    if scale > count:
        raise StorageError(f"volume {address}: scale {scale} needs scale {scale - 1} first")
    if scale < count and _stored(module, address, scale) == wanted:
        return True
    forget()
    store = Store(str(address))
    for number in range(scale, max(count, scale + 1)):
        store.delete(f"volflow.owner.{number}.json")
    if scale < count:
        module.delete_scales(address, scale)
    return False


def _stored(module: ModuleType, address: Address, scale: int) -> Layout | None:
    """The layout of a scale that our metadata tells of; None if a part of them is not there.

    A store that fails, or metadata that cannot be read, are no reason to delete voxels.
    """
    try:
        layout: Layout = module.open_scale(address, scale, True).layout
    except StorageError as error:
        if error.__cause__ is None or "NOT_FOUND" in str(error.__cause__):
            return None
        raise
    return layout


def _scales_of_ours(module: ModuleType, address: Address) -> Scales | None:
    """What is there already, None if nothing is; a volume that is not ours is an error."""
    there: Scales | None = module.scales(address)
    if there is not None and not there.ours:
        raise StorageError(
            f"volume {address} was not written by volflow and will not be replaced; "
            f"delete it or choose another path"
        )
    return there


def _opened(address: Address, level: int, own: bool) -> StoredArray:
    try:
        voxels: StoredArray = _FORMATS[address.format].open_scale(address, level, own)
    except StorageError as error:
        if error.__cause__ is None:  # else a store has told what is wrong
            Store(str(address)).require_bucket()  # which is told before what it does not hold
        raise
    return voxels


def _with_format(spec: VolumeSpec, new: bool = False) -> Address:
    """The address with its format: told, or found by looking at what is there."""
    address = Address.parse(spec.path)
    if address.format in CHUNKED or not address.format:
        unknown = address.unknown_options()
        if unknown:
            raise StorageError(f"volume {spec.path}: {unknown}")
    if address.format:
        return address
    found = file_format(address) or _sniff(address)
    if not found and new:
        suffix = "." + address.location.rpartition(".")[2]
        found = _SUFFIXES.get(suffix, "precomputed")
    if not found:
        Store(str(address)).require_bucket()
        raise StorageError(
            f"volume {spec.path}: nothing there looks like a volume (precomputed info, zarr, n5, "
            f"HDF5, TIFF, MRC, NIfTI, or a folder of TIFF, PNG or JPEG sections)"
        )
    return Address(found, address.location, address.query)


def _sniff(address: Address) -> str:
    """The chunked format that is there; empty if none is."""
    for name in CHUNKED:
        if _FORMATS[name].scales(Address(name, address.location, address.query)) is not None:
            return name
    return ""
