"""Directories of TIFF files that are cut short: tifffile logs what is missing, and goes on."""

from __future__ import annotations

import struct
from typing import Any

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
"""Bytes of a value by its type in a directory."""


def require_directories(file: Any) -> None:
    """Check that the list of pages and the tags of the first page are complete.

    Where the directory of a page is beyond the end of the file, or damaged, tifffile ends the list;
    a tag whose value is beyond it is left out, or has as many bytes as there are.

    Parameters
    ----------
    file : tifffile.TiffFile

    Raises
    ------
    ValueError
        If another page follows the last one, or the value of a tag is not in the file.
    """
    pages = file.pages
    _, following = _directory(file, pages[len(pages) - 1].offset)
    if following:
        raise ValueError(
            f"it is cut short or damaged; expected a page at byte {following} after "
            f"{len(pages)} pages, got none"
        )
    tags, _ = _directory(file, pages[0].offset)
    for code, end in tags:
        if end > file.filehandle.size:
            raise ValueError(
                f"it is cut short; expected a file of {end} bytes or more for its tag {code}, got "
                f"{file.filehandle.size}"
            )


def _directory(file: Any, offset: int) -> tuple[list[tuple[int, int]], int]:
    """Code and end of the value of each tag of a page, and the place of the next page; 0: none."""
    form, handle = file.tiff, file.filehandle
    handle.seek(offset)
    count = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))[0]
    tags = []
    for _ in range(count):
        entry = handle.read(form.tagsize)
        if form.is_ndpi:  # half of an offset is stored elsewhere
            continue
        code, kind = struct.unpack_from(form.tagformat1, entry)
        number, place = struct.unpack_from(form.byteorder + form.tagformat2[1:], entry, 4)
        size = _SIZES.get(kind, 0) * number
        if size > form.tagoffsetthreshold:
            tags.append((code, struct.unpack(form.offsetformat, place)[0] + size))
    return tags, struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0]
