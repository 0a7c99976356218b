"""Folders of sections: one TIFF, PNG or JPEG file per section, in natural order of their names."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.image_files import (
    ENDINGS,
    read_header,
    read_image,
)
from volflow.io.formats.files.read_only import ReadOnlyArray
from volflow.io.formats.files.recent import RecentSections
from volflow.io.formats.files.section_order import (
    SectionOrderError,
    natural,
    sections_in_order,
)
from volflow.io.formats.stored_array import MetadataNotes, stored_layout

READERS = 8  # threads that read headers: on a network file system they mostly wait
_SAME = {".tiff": ".tif", ".jpeg": ".jpg"}


class Sections(ReadOnlyArray):
    """One file per section, all of one size, type and number of channels.

    On opening, the first section's header is read; `verify` reads those of all others.
    """

    def __init__(self, address: Address, files: Sequence[Path], warnings: Sequence[str]) -> None:
        super().__init__(address)
        self._files = list(files)
        first = read_header(address, self._files[0])
        channels = (first.channels,) if first.channels else ()
        self._shape: tuple[int, ...] = (first.height, first.width, *channels)
        self._palette, dtype = first.palette, first.dtype
        if self._palette:
            warnings = [*warnings, "sections with a palette are read as its indices, not colours"]
        self.notes = MetadataNotes(warnings=tuple(warnings))
        shape = zyx((len(self._files), *self._shape[:2]))
        count = self._shape[2] if len(self._shape) == 3 else 0
        self.layout = stored_layout(shape, (0, 0, 0), None, dtype, count, (1, *self._shape[:2]))
        self._sections = RecentSections(self._section)

    def verify(self, background: bool = False) -> None:
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
                self._require_palette(path, header.palette)

    def _require_palette(self, path: Path, palette: bytes) -> None:
        """Raise if the indices of a section stand for other colours than those of the first."""
        common = min(len(palette), len(self._palette))
        if bool(palette) != bool(self._palette) or palette[:common] != self._palette[:common]:
            raise StorageError(
                f"volume {self._address}: section {path} has another palette than the first; "
                f"expected one for all, so that an index means the same; save them as grey images"
            )

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


def section_files(address: Address, path: Path) -> tuple[list[Path], list[str]]:
    """The sections in a folder, or those that a pattern matches, in order, and warnings.

    With the option `order=names` that is the natural order of the whole paths; otherwise the
    numbers in the names are checked, with `order=signed` as signed ones.

    Raises
    ------
    StorageError
        If there are none, of several kinds, or their numbers have a gap or a duplicate.
    """
    order = dict(address.query).get("order")
    if address.query not in ((), (("order", "names"),), (("order", "signed"),)):
        raise StorageError(f"volume {address}: expected no option but order=names, order=signed")
    if path.is_dir():
        children = (c for c in path.iterdir() if not c.name.startswith("."))  # as a pattern does
        files = [child for child in children if child.suffix.lower() in ENDINGS]
    else:
        files = [Path(name) for name in glob.glob(str(path))]
    if not files:
        raise StorageError(f"volume {address}: no sections; expected TIFF, PNG or JPEG files")
    endings = {_SAME.get(child.suffix.lower(), child.suffix.lower()) for child in files}
    if len(endings) > 1:
        raise StorageError(
            f"volume {address}: sections of several kinds; expected one, got {sorted(endings)}"
        )
    if order == "names":
        return sorted(files, key=lambda file: natural(str(file))), []
    try:
        return sections_in_order(files, signed=order == "signed")
    except SectionOrderError as error:
        raise StorageError(f"volume {address}: {error}") from error
