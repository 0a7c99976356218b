"""Volumes that are only read: TIFF files, folders of TIFF or PNG sections, HDF5 (`hdf5`).

Nothing is read on opening but headers; each read takes the pages or sections that its box
touches. Files are opened per process and read-only, so that many may read them.
"""

from __future__ import annotations

import glob
import itertools
import math
import re
import struct
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import TABLES, Address
from volflow.io.formats.containment import require_one_file
from volflow.io.formats.hdf5 import Hdf5
from volflow.io.formats.stored_array import StoredArray, placed, stored_layout

HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
TIFF = (".tif", ".tiff")
SECTIONS = (*TIFF, ".png")
CACHE_BYTES = 64 << 20  # decoded sections kept per stack; at least one
_TIFF_ERRORS = (OSError, ValueError, IndexError, struct.error, RuntimeError)


def sniff(address: Address) -> str:
    """`hdf5` or `tiff` if that is what a plain path names, by its ending; else empty."""
    path = address.local
    if path is None:
        return ""
    suffix = path.suffix.lower()
    if suffix in HDF5_ENDINGS:
        return "hdf5"
    if suffix in TIFF or (suffix in SECTIONS and _is_pattern(path)):
        return "tiff"
    if path.is_dir() and any(child.suffix.lower() in SECTIONS for child in path.iterdir()):
        return "tiff"
    return ""


def open_stack(address: Address, level: int) -> StoredArray:
    """Open an HDF5 dataset, a TIFF file or a stack of sections.

    Raises
    ------
    StorageError
        If it is not there, not readable, or not of axes that make a volume.
    """
    if address.format in TABLES:
        raise StorageError(f"volume {address}: {address.format} holds a table, no volume")
    if level:
        raise StorageError(f"volume {address}: {address.format} has one scale, not scale {level}")
    path = address.local
    if path is None:
        raise StorageError(f"volume {address}: {address.format} is read from local files only")
    if address.format == "hdf5":
        return Hdf5(address, path)
    if path.is_file():
        return TiffFile(address, path)
    return Sections(address, _section_files(address, path))


class TiffFile:
    """A TIFF file of many pages; mapped into memory where it is stored plainly."""

    scales = 1
    ours = False

    def __init__(self, address: Address, path: Path) -> None:
        import tifffile  # slow, and most runs read no TIFF

        self._address, self._path = address, path
        self._lock = threading.Lock()  # pages of one file share a file handle
        try:
            self._file = tifffile.TiffFile(path)
            weakref.finalize(self, self._file.close)  # nobody closes a volume
            require_one_file(self._file.ome_metadata, path.name, f"volume {address}")
            self._series = self._file.series[0]
        except _TIFF_ERRORS as error:
            raise StorageError(f"volume {address}: {path} is no readable TIFF: {error}") from error
        if self._series.is_multifile:
            raise StorageError(
                f"volume {address}: {path} is one of several files that belong together"
            )
        self._shape, self._axes = self._series.shape, self._series.axes
        self._z, self._channel = _stack_axes(address, self._shape, self._axes)
        self._map = self._mapped()
        key = self._series.keyframe
        self._page_rank = key.ndim
        depth = 1 if self._z is None else self._shape[self._z]
        plane = tuple(self._shape[self._axes.index(axis)] for axis in "YX")
        channels = 0 if self._channel is None else self._shape[self._channel]
        shape = zyx((depth, *plane))
        self.layout = stored_layout(
            shape, (0, 0, 0), None, self._series.dtype, channels, (1, *plane)
        )
        self._pages = _Recent(self._page)

    def _mapped(self) -> np.ndarray | None:
        """All voxels as a memory map; None where they are packed or scattered."""
        offset = self._series.dataoffset
        if offset is None:
            return None
        dtype = self._series.dtype.newbyteorder(self._file.byteorder)
        size = math.prod(self._shape) * dtype.itemsize
        if self._path.stat().st_size < offset + size:
            raise StorageError(
                f"volume {self._address}: {self._path} ends before its last page; "
                f"{offset + size} bytes are expected, {self._path.stat().st_size} are there"
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
        wanted = self._shape[len(self._shape) - self._page_rank :]
        if array.shape != wanted:
            raise StorageError(
                f"{self._path}: page {number} is {array.shape}, the first page {wanted}"
            )
        return array

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds; all channels, or those named; into `out` if it is given."""
        return placed(self._read(box, channels), out)

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        count = self.layout.channels
        wanted = list(range(count)) if channels is None else list(channels)
        z, y, x = box.slices
        out = np.empty((len(wanted) if count else 1, *box.shape), self.layout.dtype)
        for i, channel in enumerate(wanted if count else [0]):
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

    def write(self, box: Box, array: np.ndarray) -> None:
        """Refuse: TIFF is only read."""
        raise StorageError(f"volume {self._address}: TIFF is only read, never written")


class Sections:
    """One file per section, all of one size, in the natural order of their names."""

    scales = 1
    ours = False

    def __init__(self, address: Address, files: list[Path]) -> None:
        self._address, self._files = address, files
        first = _header(address, files[0])
        self._shape, dtype = first
        channels = self._shape[2] if len(self._shape) == 3 else 0
        plane = self._shape[:2]
        shape = zyx((len(files), *plane))
        self.layout = stored_layout(shape, (0, 0, 0), None, dtype, channels, (1, *plane))
        self._sections = _Recent(self._section)

    def _section(self, number: int) -> np.ndarray:
        path = self._files[number]
        array = _image(self._address, path)
        wanted = (self._shape, self.layout.dtype)
        if (array.shape, array.dtype) != wanted:
            raise StorageError(
                f"volume {self._address}: section {path} is {array.shape} {array.dtype}, "
                f"the first section {wanted[0]} {wanted[1]}"
            )
        return array

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds; all channels, or those named; into `out` if it is given."""
        return placed(self._read(box, channels), out)

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        z, y, x = box.slices
        count = self.layout.channels
        if not count:
            return np.stack([self._sections(number)[y, x] for number in range(z.start, z.stop)])
        wanted = list(range(count)) if channels is None else list(channels)
        planes = (self._sections(number)[y, x] for number in range(z.start, z.stop))
        return np.stack([np.moveaxis(plane[..., wanted], -1, 0) for plane in planes], axis=1)

    def write(self, box: Box, array: np.ndarray) -> None:
        """Refuse: sections are only read."""
        raise StorageError(f"volume {self._address}: sections are only read, never written")


class _Recent:
    """The sections read last, up to `CACHE_BYTES`, because neighbouring boxes share them."""

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __call__(self, number: int) -> np.ndarray:
        with self._lock:
            found = self._kept.get(number)
            if found is not None:
                self._kept.move_to_end(number)
                return found
        array = self._read(number)
        with self._lock:
            self._kept[number] = array
            while len(self._kept) > 1 and len(self._kept) * array.nbytes > CACHE_BYTES:
                self._kept.popitem(last=False)
        return array


def _stack_axes(
    address: Address, shape: tuple[int, ...], axes: str
) -> tuple[int | None, int | None]:
    """Which axis of a TIFF series is z and which the channel; None for one that is not there."""
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
                f"volume {address}: axes {axes} of shape {shape} are not one stack of sections"
            )
    if "Y" not in axes or "X" not in axes:
        raise StorageError(f"volume {address}: axes {axes} have no sections of y and x")
    return z, channel


# --- files of sections ---------------------------------------------------------------------------


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


def _section_files(address: Address, path: Path) -> list[Path]:
    if path.is_dir():
        found = [child for child in path.iterdir() if child.suffix.lower() in SECTIONS]
    else:
        found = [Path(name) for name in glob.glob(str(path))]
    if not found:
        raise StorageError(f"volume {address}: no TIFF or PNG section is there")
    endings = {child.suffix.lower().replace("tiff", "tif") for child in found}
    if len(endings) > 1:
        raise StorageError(f"volume {address}: sections are of several kinds: {sorted(endings)}")
    files = sorted(found, key=_natural)
    _refuse_gap(address, files)
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts s9 before s10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _refuse_gap(address: Address, files: list[Path]) -> None:
    """Raise if the numbered sections skip one: those behind it would lie in the wrong place."""
    numbers = list(_numbers(files))
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(numbers) == len(files) and len(steps) > 1 and min(steps) > 0:
        gap = next(i for i, (a, b) in enumerate(itertools.pairwise(numbers)) if b - a > min(steps))
        raise StorageError(
            f"volume {address}: sections are missing between {files[gap].name} and "
            f"{files[gap + 1].name}; put blank ones there, or rename"
        )


def _numbers(files: list[Path]) -> Iterator[int]:
    """The one number in each name that differs from file to file, if there is such a one."""
    split = [re.split(r"(\d+)", path.stem) for path in files]
    if len({len(parts) for parts in split}) != 1:
        return
    changing = [place for place in range(len(split[0])) if len({p[place] for p in split}) > 1]
    if len(changing) == 1 and changing[0] % 2 == 1:
        yield from (int(parts[changing[0]]) for parts in split)


def _header(address: Address, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (Y, X) or (Y, X, C) and dtype of a section; of a TIFF without decoding it."""
    if path.suffix.lower() in TIFF:
        import tifffile

        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages[0]
                return tuple(page.shape), np.dtype(page.dtype).newbyteorder("=")
        except _TIFF_ERRORS as error:
            raise StorageError(f"volume {address}: {path} is no readable TIFF: {error}") from error
    array = _image(address, path)
    return array.shape, array.dtype


def _image(address: Address, path: Path) -> np.ndarray:
    """Read a section, (Y, X) or (Y, X, C)."""
    try:
        if path.suffix.lower() in TIFF:
            import tifffile

            array = np.asarray(tifffile.imread(path, key=0))
        else:
            array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    except Exception as error:  # decoders of many codecs raise many things
        raise StorageError(f"volume {address}: section {path} cannot be read: {error}") from error
    if array.ndim not in (2, 3):
        raise StorageError(f"volume {address}: section {path} of shape {array.shape} is no image")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
