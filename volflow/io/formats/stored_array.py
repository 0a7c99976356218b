"""The layout of a stored volume, and reading and writing of its chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorstore as ts

from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.errors import StorageError
from volflow.io.address import Address, context, kvstore_spec
from volflow.io.formats.chunk_objects import check_objects
from volflow.io.object_store import describe_store_error

"""Nanometres per voxel along z, y, x."""

_STRICT = {"fill_missing_data_reads": False}
_OWN = {**_STRICT, "store_data_equal_to_fill_value": True}


@dataclass(frozen=True)
class Layout:
    """The layout of one scale of a stored volume.

    `channels` is 0 for an array without a channel axis; `shard` is None if each chunk is an object
    of its own.
    """

    bounds: Box
    resolution: Resolution | None
    dtype: np.dtype[Any]
    channels: int
    chunk: Triple
    shard: Triple | None = None
    encoding: str = ""
    kind: str = ""

    @property
    def leading(self) -> tuple[int, ...]:
        """The shape of the channel axis: (C,), or () without one."""
        return (self.channels,) if self.channels else ()


class Scales(NamedTuple):
    """The number of scales in a volume's metadata, and whether volflow wrote it."""

    number: int
    ours: bool


@dataclass(frozen=True)
class MetadataNotes:
    """Assumptions of a reader of metadata, and all that it leaves to the user's declaration.

    Attributes
    ----------
    warnings : tuple of str
        Assumptions, each one sentence.
    size_warnings : tuple of str
        Those about the voxel size, which do not matter if the user declares it.
    offset_nm : tuple of float or None
        Position of the first voxel in nanometres, z y x, where the metadata hold no voxel size.
    offset_problem : str
        Why the position of the first voxel is unknown; "" if it is known.
    """

    warnings: tuple[str, ...] = ()
    size_warnings: tuple[str, ...] = ()
    offset_nm: tuple[float, float, float] | None = None
    offset_problem: str = ""


NO_NOTES = MetadataNotes()


class StoredArray(Protocol):
    """One scale of a stored volume, opened."""

    layout: Layout
    scales: int
    ours: bool
    notes: MetadataNotes

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds: all channels, or the numbered ones.

        `out`, if given, receives the voxels; its shape and dtype are those of the result.
        """

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write a box of whole chunks."""

    def verify(self, background: bool = False) -> None:
        """Check, from headers alone, that every part of the volume can be read.

        `background` is whether missing chunks are declared to be background.
        """


class ChunkedArray:
    """One scale of a volume on tensorstore.

    Parameters
    ----------
    address : Address
        For messages.
    layout : Layout
        Layout of the scale.
    array : ts.TensorStore
        Axes (c,) z, y, x; its domain is that of the bounds.
    scales : int
        Number of scales of the volume.
    ours : bool
        Whether volflow wrote it.
    notes : MetadataNotes
    spec : dict, optional
        The specification by which chunks are named; default: that of the array.
    """

    def __init__(
        self,
        address: Address,
        layout: Layout,
        array: ts.TensorStore,
        scales: int,
        ours: bool,
        notes: MetadataNotes = NO_NOTES,
        spec: dict[str, Any] | None = None,
    ) -> None:
        self.address, self.layout, self.scales, self.ours = address, layout, scales, ours
        self.notes = notes
        self._array, self._spec = array, spec

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds, into `out` if given.

        Raises
        ------
        StorageError
            If a chunk is damaged, or is missing from a volume that volflow wrote.
        """
        view = self._array[(..., *box.slices)]
        if channels is not None and self.layout.channels:
            view = view[list(channels)]
        try:
            if self.layout.shard is None:  # chunks are decoded in place
                voxels = np.empty(view.shape, view.dtype.numpy_dtype) if out is None else out
                target = ts.array(voxels, copy=False, context=context())
                target[ts.d[:].translate_to[view.domain.origin]].write(view).result()
                return voxels
            with ts.Batch() as batch:  # so that the index of a shard is read once
                reading = view.read(order="C", batch=batch)
            return placed(np.asarray(reading.result()), out)
        except (ValueError, OSError, RuntimeError) as error:
            what = "a chunk is missing" if "NOT_FOUND" in str(error) else "cannot be read"
            raise self._error(box, what, error) from error

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write a box of whole chunks, or of whole shards, each in one transaction."""
        try:
            if self.layout.shard is None:
                view = self._array[(..., *box.slices)]
                view.write(array, can_reference_source_data_indefinitely=True).result()
                return
            for part in tiles(box, self.layout.shard, self.layout.bounds.start):
                with ts.Transaction() as transaction:
                    view = self._array.with_transaction(transaction)[(..., *part.slices)]
                    view.write(array[(..., *part.within(box))]).result()
        except (ValueError, OSError, RuntimeError) as error:
            raise self._error(box, "cannot be written", error) from error

    def verify(self, background: bool = False) -> None:
        """Check that chunks of a foreign volume exist, and note how many are missing.

        Raises
        ------
        StorageError
            If no chunk exists, or some are missing and there are objects of other names; not if
            missing chunks are declared to be background.
        """
        if self.ours:
            return
        spec = self._spec or self._array.spec().to_json()
        text = check_objects(spec, f"volume {self.address}", background)
        if text and text not in self.notes.warnings:
            self.notes = replace(self.notes, warnings=(*self.notes.warnings, text))

    def _error(self, box: Box, what: str, error: Exception) -> StorageError:
        reason = describe_store_error(error, self.address.location)
        return StorageError(f"volume {self.address}, box {box}: {what}: {reason}")


def placed(array: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """The array, or `out` with a copy of it if `out` is given."""
    if out is None:
        return array
    out[...] = array
    return out


def tiles(box: Box, shape: Triple, origin: Triple) -> Iterator[Box]:
    """The parts into which a grid from `origin` cuts a box."""
    axes = zip(box.start, box.stop, shape, origin, strict=True)
    starts = [range(a - (a - o) % s, b, s) for a, b, s, o in axes]
    for start in map(zyx, itertools.product(*starts)):
        yield Box(start, start + shape).clip(box)


def open_array(
    address: Address, driver: str, folder: str, own: bool, *, strict: bool = False, **more: object
) -> ts.TensorStore:
    """Open a tensorstore array in a folder below an address.

    Parameters
    ----------
    address : Address
    driver, folder : str
    own : bool
        Whether it may be written; a missing chunk is an error then, too.
    strict : bool
        Whether a missing chunk is an error instead of zeros.
    more
        Further entries of tensorstore's specification.

    Raises
    ------
    StorageError
        If there is none, or its metadata are invalid.
    """
    location = f"{address.location}/{folder}".rstrip("/")
    spec = {
        "driver": driver,
        "kvstore": kvstore_spec(location, address.query),
        **(_OWN if own else _STRICT if strict else {}),
        **more,
    }
    try:
        return ts.open(spec, context=context(), open=True, read=True, write=own).result()
    except (ValueError, OSError, RuntimeError) as error:
        reason = describe_store_error(error, address.location)
        raise StorageError(f"volume {address}: cannot be opened: {reason}") from error


def create_array(address: Address, driver: str, folder: str, **more: object) -> None:
    """Create a tensorstore array in a folder below an address.

    Raises
    ------
    StorageError
        If there is an array, the dtype or shape does not fit, or the store fails.
    """
    store = kvstore_spec(f"{address.location}/{folder}", address.query)
    spec = {"driver": driver, "kvstore": store, **more}
    try:
        ts.open(spec, context=context(), create=True).result()
    except (ValueError, OSError, RuntimeError) as error:
        reason = describe_store_error(error, address.location)
        raise StorageError(f"volume {address}: cannot be created: {reason}") from error


def spatial_chunks(array: ts.TensorStore) -> tuple[Triple, Triple | None]:
    """The chunk, and the shard or None, along z, y, x."""
    layout = array.chunk_layout
    sides = [each.shape or array.shape for each in (layout.read_chunk, layout.write_chunk)]
    chunk, shard = (zyx([int(side or 1) for side in each[-3:]]) for each in sides)
    return chunk, None if shard == chunk else shard


def anchored(array: ts.TensorStore, start: Triple) -> ts.TensorStore:
    """The array (c,) z, y, x with its first voxel at `start`."""
    return array[ts.d[array.rank - 3, array.rank - 2, array.rank - 1].translate_to[start]]


def stored_layout(
    shape: Sequence[int],
    start: Triple,
    resolution: Resolution | None,
    dtype: np.dtype[Any],
    channels: int,
    chunk: Sequence[int],
) -> Layout:
    """The layout of a volume that is only read, of one scale."""
    stop = zyx(start) + zyx(shape)
    native = np.dtype(dtype).newbyteorder("=")
    return Layout(Box(start, stop), resolution, native, channels, zyx(chunk))


def parents(address: Address, most: int = 3) -> Iterator[tuple[Address, str]]:
    """The folders above an address, nearest first, and the path from each to the address."""
    scheme, slashes, path = address.location.rpartition("://")
    parts = path.split("/")
    fewest = 1 if slashes else 2  # a bucket or host, or the root of the file system
    for count in range(1, most + 1):
        if len(parts) - count < fewest:
            return
        location = f"{scheme}{slashes}" + "/".join(parts[:-count])
        yield Address(address.format_name, location, address.query), "/".join(parts[-count:])
