"""A volume, opened: `read(box)` and `write(box, array)` in absolute voxels z, y, x.

In every format channels come first, boxes are half-open, and voxels outside the bounds are read
as a fill value. Files are only read (`formats/files`); declared changes of numbers are in
`formats/conversion`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Resolution, Triple, Zyx, zyx
from volflow.core.stage import Layer
from volflow.errors import StorageError
from volflow.io.address import CHUNKED, Address
from volflow.io.creation import create_scale, planned_layout, require_ours, writable_address
from volflow.io.downsampled_array import DownsampledArray, downsampling_factors
from volflow.io.formats.conversion import aligned, conversion
from volflow.io.formats.detect import CHUNKED_FORMATS, with_format
from volflow.io.formats.files.open_file import open_file
from volflow.io.formats.metadata.axes import declared_start
from volflow.io.formats.stored_array import StoredArray
from volflow.io.indexing import Index, indexed_box
from volflow.io.reading import reading
from volflow.io.store import Store


class Volume:
    """One scale of a volume, from `Volume.open` or `Volume.create`.

    Attributes
    ----------
    address : str
        Its address, with the format.
    bounds : Box
        In voxels of this scale.
    resolution : tuple of float or None
        Nanometres per voxel, z y x; None if unknown.
    dtype, stored_dtype : np.dtype
        Type of the numbers as they are read, and as they are stored.
    channels : int
        Length of the channel axis; 0 if there is none.
    chunk, shard : Triple, Triple or None
        Voxels read and written as one object, z y x; `shard` is None if a chunk is one.
    scales : int
        Number of scales that the volume has.
    downsample : Triple
        Stored voxels per voxel that is read, z y x.
    warnings : tuple of str
        Assumptions made while its metadata were read, each one sentence.
    """

    def __init__(
        self,
        spec: VolumeSpec,
        own: bool,
        address: Address,
        voxels: StoredArray,
        partial: bool = False,
    ) -> None:
        self._partial = partial
        self.spec, self.own, self._stored = spec, own, voxels
        self.address, self.format = str(address), address.format_name
        self._shift = zyx(0)
        self.downsample = zyx(1)
        self.resolution: Resolution | None = voxels.layout.resolution
        if not own:
            self.resolution = spec.resolution or voxels.layout.resolution
            start = self._start(voxels)
            self.downsample = downsampling_factors(spec.downsample, self.resolution)
            if self.downsample != (1, 1, 1):
                voxels = DownsampledArray(voxels, start, self.resolution, self.downsample)
                start, self.resolution = voxels.layout.bounds.start, voxels.layout.resolution
            self._shift = start - voxels.layout.bounds.start
        self._voxels, layout = voxels, voxels.layout
        self._conversion = conversion(spec, layout, own)
        self.bounds = layout.bounds.shift(self._shift)
        self.stored_dtype, self.dtype = layout.dtype, self._conversion.dtype
        self.channels, self.kind = self._conversion.channels, layout.kind
        self.chunk, self.shard, self.encoding = layout.chunk, layout.shard, layout.encoding
        self.scales = voxels.scales
        self.warnings = () if own else self._warnings()

    def _start(self, voxels: StoredArray) -> Zyx:
        """The first voxel of a foreign volume: as declared, or from its metadata."""
        notes, where = voxels.notes, f"volume {self.address}"
        if self.spec.offset is not None:
            return zyx(self.spec.offset)
        if notes.offset_problem:
            raise StorageError(f"{where}: {notes.offset_problem}")
        if notes.offset_nm is None or not any(notes.offset_nm):
            return voxels.layout.bounds.start
        if self.resolution is None:
            raise StorageError(
                f"{where}: expected a voxel size with its offset of {notes.offset_nm} nm, got "
                f"none; declare `resolution` or `offset`"
            )
        return declared_start(notes.offset_nm, self.resolution, where)

    def _warnings(self) -> tuple[str, ...]:
        """Sentences on all that the metadata left open and the declaration changes."""
        notes, declared = self._stored.notes, self.spec.resolution
        stored = self._stored.layout.resolution
        if declared is None:
            return (*notes.warnings, *notes.size_warnings)
        if stored is None or np.allclose(declared, stored, rtol=1e-3):
            return notes.warnings
        sides = ", ".join(f"{side:g}" for side in stored)
        return (*notes.warnings, f"the declared resolution replaces {sides} nm of the metadata")

    @classmethod
    def open(cls, spec: VolumeSpec, *, own: bool = False, partial: bool = False) -> Volume:
        """Open the scale `spec.level` of a volume.

        Parameters
        ----------
        spec : VolumeSpec
            Its address, and the meaning of its numbers.
        own : bool
            For a volume of this run: it can be written, and offset and resolution are those of its
            metadata.
        partial : bool
            Whether a chunk that volflow has not written yet reads as zeros, for a viewer; otherwise
            a missing chunk of any volume that volflow wrote is an error.

        Raises
        ------
        StorageError
            If it does not exist, or does not match its address or declaration.
        """
        with reading(spec.path, "volume"):
            address = with_format(spec.path)
            if address.format_name in CHUNKED:
                voxels = _open_chunked(address, spec.level, own, partial)
            elif own:
                raise StorageError(
                    f"volume {address}: {address.format_name} is only read, never written"
                )
            else:
                voxels = open_file(address, spec.level)
            return cls(spec, own, address, voxels, partial)

    @classmethod
    def create(
        cls,
        spec: VolumeSpec,
        layer: Layer,
        bounds: Box,
        resolution: Resolution,
        chunk: Triple,
        *,
        scale: int = 0,
        before_deletion: Callable[[], None] | None = None,
    ) -> tuple[Volume, bool]:
        """Create a scale of a volume, or keep an existing one that is equal.

        A scale that volflow wrote and that differs is deleted first, with the coarser ones made
        from it.

        Parameters
        ----------
        spec : VolumeSpec
            Address, encoding and shard.
        layer : Layer
            dtype, channels and kind.
        bounds, resolution : Box, tuple of float
            In voxels and nanometres of this scale.
        chunk : Triple
            Default for `spec.chunk`; cut to the bounds.
        scale : int
            0, or the number of existing scales.
        before_deletion : function, optional
            Called before anything is deleted.

        Returns
        -------
        Volume, bool
            The volume, opened as our own, and whether it is new.

        Raises
        ------
        StorageError
            If the format cannot hold it, a finer scale is missing, a foreign volume is in the way,
            or the store fails.
        """
        address = writable_address(spec.path)
        if bounds.size == 0:
            raise StorageError(f"volume {address}: there are no voxels in its bounds {bounds}")
        own = spec.model_copy(update={"path": str(address), "level": scale})
        layout = planned_layout(address, spec, layer, bounds, resolution, chunk)
        open_cached.cache_clear()
        is_new = create_scale(address, layout, scale, before_deletion)
        return cls.open(own, own=True), is_new

    @classmethod
    def refusal(
        cls, spec: VolumeSpec, layer: Layer, bounds: Box, resolution: Resolution, chunk: Triple
    ) -> str:
        """The reason for which `create` would refuse a new volume, or ""; nothing is written."""
        try:
            address = writable_address(spec.path)
            planned_layout(address, spec, layer, bounds, resolution, chunk)
            require_ours(address)
        except StorageError as error:
            return str(error)
        return ""

    def read(self, box: Box, fill: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """Read any box, also an empty one, or one that extends beyond the volume.

        Parameters
        ----------
        box : Box
            In absolute voxels of this scale.
        fill : int
            The value of voxels outside the bounds.
        out : array, optional
            The array to read into, of the shape and dtype of the result; default: a new one.

        Returns
        -------
        array, (Z, Y, X) or (C, Z, Y, X), of `dtype`; C-contiguous if new

        Raises
        ------
        StorageError
            If a chunk is damaged, or is missing from a volume that volflow wrote.
        """
        with reading(self.address, "volume"):
            return self._conversion.read(self._voxels, box.shift(-self._shift), fill, out)

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write a box of whole chunks (of a sharded volume: whole shards).

        Parameters
        ----------
        box : Box
            In absolute voxels, within the bounds; it starts and stops on borders of chunks or at
            the end of the bounds.
        array : array, (Z, Y, X) or (C, Z, Y, X), of `dtype`

        Raises
        ------
        ValueError
            If the shape or dtype does not match.
        StorageError
            If the box is not made of whole chunks within the bounds, or the store fails.
        """
        if not self.own:
            raise StorageError(f"volume {self.address} was opened for reading only")
        expected = (*self._conversion.leading, *box.shape)
        if array.shape != expected:
            raise ValueError(
                f"volume {self.address}, box {box}: expected an array of shape {expected}; "
                f"got {array.shape}"
            )
        if array.dtype != self.dtype:
            raise ValueError(f"volume {self.address}: expected {self.dtype}; got {array.dtype}")
        if box.size == 0:
            return
        if not self.bounds.covers(box):
            raise StorageError(f"volume {self.address}: expected a box in {self.bounds}; got {box}")
        unit, name = (self.chunk, "chunks") if self.shard is None else (self.shard, "shards")
        if not aligned(box, self.bounds, unit):
            raise StorageError(
                f"volume {self.address}: expected a box of whole {name} {unit} counted from "
                f"{self.bounds.start}, so that no two writers share one; got {box}"
            )
        self._voxels.write(box, array)

    @property
    def ours(self) -> bool:
        """Whether volflow wrote the volume, in this run or another."""
        return self._voxels.ours

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

        For a folder of sections this reads one header per section; the chunks of a foreign volume
        are counted. Adds to `warnings`.

        Raises
        ------
        StorageError
            If a section differs from the others in size or type, no chunk exists, or chunks are
            missing where there are objects of other names; not for chunks that are declared to be
            background.
        """
        with reading(self.address, "volume"):
            self._voxels.verify(self.spec.missing == "background")
        self.warnings = () if self.own else self._warnings()

    def identity(self) -> dict[str, Any]:
        """Everything that the voxels read depend on, as JSON, for digests."""
        spec = self.spec
        ignored = [] if spec.ignore is None else [list(spec.ignore)]
        return {
            "address": self.address,
            "level": spec.level,
            "dtype": str(self.stored_dtype),
            "channels": self._voxels.layout.channels,
            "bounds": str(self.bounds),
            "resolution": self.resolution,
            "read": None
            if self.own
            else [spec.channels, spec.offset_sign, spec.scale, spec.boundary, *ignored],
            "version": spec.version,
            **({} if self.downsample == (1, 1, 1) else {"downsample": list(self.downsample)}),
        }

    def describe(self) -> dict[str, Any]:
        """All properties of the volume, as JSON."""
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
        return _reopen, (self.spec, self.own, self._partial)

    def __repr__(self) -> str:
        return f"<Volume {self.address} {self.bounds} {self.dtype} {self.shape}>"


@lru_cache(maxsize=64)
def open_cached(spec: VolumeSpec, own: bool) -> Volume:
    """Open a volume once per process."""
    return Volume.open(spec, own=own)


def _reopen(spec: VolumeSpec, own: bool, partial: bool = False) -> Volume:
    return Volume.open(spec, own=own, partial=partial)


def _open_chunked(address: Address, level: int, own: bool, partial: bool) -> StoredArray:
    try:
        voxels: StoredArray = CHUNKED_FORMATS[address.format_name].open_scale(
            address, level, own, partial
        )
    except StorageError as error:
        if error.__cause__ is None:  # otherwise the store has reported what is wrong
            Store(str(address)).require_bucket()  # a missing bucket explains the missing volume
        raise
    return voxels
