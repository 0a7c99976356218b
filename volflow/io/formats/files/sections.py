"""Folders of sections: one TIFF, PNG or JPEG file per section, in natural order of their names."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.image_files import (
    ENDINGS,
    TIFF,
    read_header,
    read_image,
)
from volflow.io.formats.files.read_only import ReadOnlyArray
from volflow.io.formats.files.recent import RecentSections
from volflow.io.formats.stored_array import stored_layout

READERS = 8  # threads that read headers: on a network file system they mostly wait
_SAME = {".tiff": ".tif", ".jpeg": ".jpg"}


class Sections(ReadOnlyArray):
    """One file per section, all of one size, type and number of channels.

    On opening, the first section's header is read; `verify` reads those of all others.
    """

    def __init__(self, address: Address, path: Path) -> None:
        super().__init__(address)
        self._files = section_files(address, path)
        first = self._files[0]
        if first.suffix.lower() in TIFF:
            header = read_header(address, first)
            channels = (header.channels,) if header.channels else ()
            self._shape: tuple[int, ...] = (header.height, header.width, *channels)
            dtype = header.dtype
        else:  # a header of PNG does not hold how many channels a palette is unpacked to
            image = read_image(address, first)
            self._shape, dtype = image.shape, image.dtype
        shape = zyx((len(self._files), *self._shape[:2]))
        count = self._shape[2] if len(self._shape) == 3 else 0
        self.layout = stored_layout(shape, (0, 0, 0), None, dtype, count, (1, *self._shape[:2]))
        self._sections = RecentSections(self._section)

    def verify(self) -> None:
        """Read the header of every section: 10,000 take a few seconds.

        Raises
        ------
        StorageError
            If a section has another size or type than the first, with its file and both.
        """
        with ThreadPoolExecutor(READERS) as pool:
            headers = pool.map(lambda path: read_header(self._address, path), self._files)
            for path, header in zip(self._files, headers, strict=True):
                if not header.fits(self._shape, self.layout.dtype):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise self._odd(path, str(header))

    def _section(self, number: int) -> np.ndarray:
        path = self._files[number]
        array = read_image(self._address, path)
        if (array.shape, array.dtype) != (self._shape, self.layout.dtype):
            raise self._odd(path, f"{array.shape} {array.dtype}")
        return array

    def _odd(self, path: Path, actual: str) -> StorageError:
        return StorageError(
            f"volume {self._address}: section {path} differs from the first; "
            f"expected {self._shape} {self.layout.dtype}, got {actual}"
        )

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        z, y, x = box.slices
        planes = (self._sections(number)[y, x] for number in range(z.start, z.stop))
        count = self.layout.channels
        if not count:
            return np.stack(list(planes))
        chosen = list(range(count)) if channels is None else list(channels)
        return np.stack([np.moveaxis(plane[..., chosen], -1, 0) for plane in planes], axis=1)


def is_pattern(path: Path) -> bool:
    """Whether a path has wildcards (`*`, `?`, `[...]`)."""
    return glob.has_magic(str(path))


def section_files(address: Address, path: Path) -> list[Path]:
    """The sections in a folder, or those that a pattern matches, in natural order.

    Raises
    ------
    StorageError
        If there are none, of several kinds, or their numbers have a gap.
    """
    if path.is_dir():
        files = [child for child in path.iterdir() if child.suffix.lower() in ENDINGS]
    else:
        files = [Path(name) for name in glob.glob(str(path))]
    if not files:
        raise StorageError(f"volume {address}: no sections; expected TIFF, PNG or JPEG files")
    endings = {_SAME.get(child.suffix.lower(), child.suffix.lower()) for child in files}
    if len(endings) > 1:
        raise StorageError(
            f"volume {address}: sections of several kinds; expected one, got {sorted(endings)}"
        )
    files.sort(key=_natural)
    _refuse_gap(address, files)
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts s9 before s10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _refuse_gap(address: Address, files: list[Path]) -> None:
    """Raise if the numbers of sections skip one: all later ones would be at the wrong z."""
    numbers = list(_numbers(files))
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(numbers) == len(files) and len(steps) > 1 and min(steps) > 0:
        gap = next(i for i, (a, b) in enumerate(itertools.pairwise(numbers)) if b - a > min(steps))
        raise StorageError(
            f"volume {address}: sections are missing between {files[gap].name} and "
            f"{files[gap + 1].name}; add blank ones, or rename the files"
        )


def _numbers(files: list[Path]) -> Iterator[int]:
    """The one number in each name that differs from file to file; nothing if there is none."""
    split = [re.split(r"(\d+)", path.stem) for path in files]
    if len({len(parts) for parts in split}) != 1:
        return
    changing = [place for place in range(len(split[0])) if len({p[place] for p in split}) > 1]
    if len(changing) == 1 and changing[0] % 2 == 1:
        yield from (int(parts[changing[0]]) for parts in split)
