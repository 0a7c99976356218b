"""TIFF files of many pages, mapped into memory where they are stored plainly."""

from __future__ import annotations

import math
import struct
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.containment import require_one_file
from volflow.io.formats.files.read_only import ReadOnlyArray
from volflow.io.formats.files.recent import RecentSections
from volflow.io.formats.files.tiff_directories import require_directories
from volflow.io.formats.files.tiff_series import image_series
from volflow.io.formats.files.tiff_voxel_size import tiff_voxel_size
from volflow.io.formats.stored_array import MetadataNotes, stored_layout

TIFF_ERRORS = (OSError, ValueError, IndexError, struct.error, RuntimeError)
"""Raised by tifffile for files that are not TIFF or are damaged."""


class TiffFile(ReadOnlyArray):
    """A TIFF file of many pages; mapped into memory where it is stored plainly."""

    def __init__(self, address: Address, path: Path) -> None:
        import tifffile  # slow, and most runs read no TIFF

        super().__init__(address)
        self._path = path
        self._lock = threading.Lock()  # pages of one file share a file handle
        try:
            self._file = tifffile.TiffFile(path)
            weakref.finalize(self, self._file.close)  # a volume has no close()
            require_one_file(self._file.ome_metadata, path.name, f"volume {address}")
            self._series = image_series(self._file)
            require_directories(self._file)
            resolution = tiff_voxel_size(self._file)
        except TIFF_ERRORS as error:
            message = f"volume {address}: {path} cannot be read as TIFF: {error}"
            raise StorageError(message) from error
        if self._series.is_multifile:
            raise StorageError(
                f"volume {address}: {path} is one of several files of one image; expected one "
                f"file of pages, or a folder of sections"
            )
        self._shape, self._axes = self._series.shape, self._series.axes
        self._z, self._channel = _stack_axes(address, self._shape, self._axes)
        axis = "Z" if self._z is None else self._axes[self._z]
        if axis not in "ZIQ":
            self.notes = MetadataNotes(
                warnings=(f"{path.name}: axis {axis} of {self._shape[self._z or 0]} is read as z",)
            )
        self._map = self._mapped()
        key = self._series.keyframe
        self._page_rank = key.ndim
        depth = 1 if self._z is None else self._shape[self._z]
        plane = tuple(self._shape[self._axes.index(axis)] for axis in "YX")
        channels = 0 if self._channel is None else self._shape[self._channel]
        shape = zyx((depth, *plane))
        self.layout = stored_layout(
            shape, (0, 0, 0), resolution, self._series.dtype, channels, (1, *plane)
        )
        self._pages = RecentSections(self._page)

    def verify(self, background: bool = False) -> None:
        """Check from the headers of all pages that the file is not cut short."""
        try:
            with self._lock:
                require_whole_pages(self._series.pages, self._path)
        except TIFF_ERRORS as error:
            raise StorageError(f"volume {self._address}: {self._path}: {error}") from error

    def _mapped(self) -> np.ndarray | None:
        """All voxels as a memory map; None if they are compressed or not contiguous."""
        offset = self._series.dataoffset
        if offset is None:
            return None
        dtype = self._series.dtype.newbyteorder(self._file.byteorder)
        size = math.prod(self._shape) * dtype.itemsize
        if self._path.stat().st_size < offset + size:
            raise StorageError(
                f"volume {self._address}: {self._path} is cut short; expected "
                f"{offset + size} bytes, got {self._path.stat().st_size}"
            )
        return np.memmap(self._path, dtype, "r", offset, self._shape)

    def _page(self, number: int) -> np.ndarray:
        try:
            with self._lock:
                page = self._series.pages[number]
                if page is None:
                    raise StorageError(f"{self._path}: page {number} is missing")
                array = np.asarray(page.asarray())
        except StorageError:
            raise
        except Exception as error:  # decoders of many codecs raise many things
            raise StorageError(f"{self._path}: page {number} cannot be read: {error}") from error
        expected = self._shape[len(self._shape) - self._page_rank :]
        if array.shape != expected:
            raise StorageError(
                f"{self._path}: page {number} differs from the first; expected shape {expected}, "
                f"got {array.shape}"
            )
        return array

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        count = self.layout.channels
        chosen = list(range(count)) if channels is None else list(channels)
        z, y, x = box.slices
        out = np.empty((len(chosen) if count else 1, *box.shape), self.layout.dtype)
        for i, channel in enumerate(chosen if count else [0]):
            for section in range(z.start, z.stop):
                out[i, section - z.start] = self._plane(channel, section)[y, x]
        return out if count else out[0]

    def _plane(self, channel: int, section: int) -> np.ndarray:
        """The section of a channel, (Y, X)."""
        index: list[int | slice] = [0] * len(self._shape)
        for axis in "YX":
            index[self._axes.index(axis)] = slice(None)
        if self._z is not None:
            index[self._z] = section
        if self._channel is not None:
            index[self._channel] = channel
        if self._map is not None:
            return np.asarray(self._map[tuple(index)])
        leading = len(self._shape) - self._page_rank
        number = 0
        for at, length in zip(index[:leading], self._shape[:leading], strict=True):
            assert isinstance(at, int)
            number = number * length + at
        return self._pages(number)[tuple(index[leading:])]


def require_whole_pages(pages: Iterable[Any], path: Path) -> None:
    """Raise ValueError if a page extends beyond the end of the file."""
    size = path.stat().st_size
    for number, page in enumerate(pages):
        parts = zip(page.dataoffsets, page.databytecounts, strict=False)
        end = max((offset + count for offset, count in parts), default=0)
        if end > size:
            raise ValueError(
                f"page {number} is cut short; expected a file of {end} bytes or more, got {size}"
            )


def _stack_axes(
    address: Address, shape: tuple[int, ...], axes: str
) -> tuple[int | None, int | None]:
    """The numbers of the z axis and the channel axis of a TIFF series; None for an absent one."""
    z = channel = None
    for number, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if axis in "YX" or length == 1:
            continue
        if axis in "SC" and channel is None:
            channel = number
        elif axis not in "SC" and z is None:
            z = number
        else:
            raise StorageError(
                f"volume {address}: expected axes z, y, x and at most one of channels; got axes "
                f"{axes} of shape {shape}"
            )
    if "Y" not in axes or "X" not in axes:
        raise StorageError(f"volume {address}: expected sections of y and x; got axes {axes}")
    return z, channel
