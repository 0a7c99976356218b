"""Single images: TIFF, PNG and JPEG, their headers and their pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.palette import decode_palette_png, grey_palette, png_parts
from volflow.io.formats.files.tiff import TIFF_ERRORS, require_whole_pages
from volflow.io.formats.files.tiff_directories import require_directories

TIFF = (".tif", ".tiff")
PNG = (".png",)
JPEG = (".jpg", ".jpeg")
ENDINGS = (*TIFF, *PNG, *JPEG)

_PNG_HEAD = struct.Struct(">8s4x4sIIBB")  # signature, length, IHDR, width, height, depth, colour
_PNG_NAME, _PNG_SUM = 12, 29  # start of what the checksum of the header covers, and its place
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type; of a palette: its indices
_PNG_PALETTE = 3
_PNG_START = 1 << 16  # bytes in which a PNG has its palette
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = b"\xff\xda"  # the marker before the pixels
_TAIL = 64  # bytes in which a file has the mark of its end, unless more data follow
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frame headers
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


class ImageHeader(NamedTuple):
    """Size and type of an image; `channels` is 0 for a grey one.

    `pages` are those of a TIFF file, of which only the first is the image. `palette` are the
    colours of indices, R, G, B each; empty if the values are none.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    pages: int = 1
    palette: bytes = b""

    def fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether an image (Y, X) or (Y, X, C) of this type has this header."""
        channels = shape[2] if len(shape) == 3 else 0
        same = (self.height, self.width, self.dtype) == (*shape[:2], dtype)
        return same and self.channels == channels and self.pages == 1

    def __str__(self) -> str:
        channels = (self.channels,) if self.channels else ()
        pages = f" of {self.pages} pages" if self.pages > 1 else ""
        return f"{(self.height, self.width, *channels)} {self.dtype}{pages}"


def read_header(address: Address, path: Path) -> ImageHeader:
    """The header of an image; no pixel is decoded.

    Raises
    ------
    StorageError
        If the file cannot be read, or does not match its ending.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF:
            return _tiff_header(path)
        with path.open("rb") as file:
            header = _png_header(file.read(_PNG_START)) if suffix in PNG else _jpeg_header(file)
            _require_end(file, _PNG_END if suffix in PNG else _JPEG_END)
            return header
    except TIFF_ERRORS as error:
        raise _unreadable(address, path, error) from error


def _tiff_header(path: Path) -> ImageHeader:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page, pages = file.pages[0], len(file.pages)
        require_directories(file)
        dtype = np.dtype(page.dtype).newbyteorder("=")
        require_whole_pages([page], path)
        shape = _channels_last(page.shape, page.axes)
    return ImageHeader(shape[0], shape[1], shape[2] if len(shape) == 3 else 0, dtype, pages)


def _channels_last(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """The shape (Y, X) or (Y, X, C) of a page; colours may be stored plane by plane."""
    if axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"expected an image of y, x and samples, got axes {axes}, shape {shape}")
    return (*shape[1:], shape[0]) if axes == "SYX" else tuple(shape)


def _tiff_image(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if len(file.pages) > 1:
            raise ValueError(f"expected one page as in the first section, got {len(file.pages)}")
        _channels_last(page.shape, page.axes)
        array = np.asarray(page.asarray())
    return np.moveaxis(array, 0, -1) if page.axes == "SYX" else array


def _require_end(file: Any, mark: bytes) -> None:
    """Raise if an image is cut short: it has no mark of its end.

    Of most files the last bytes are read. Others have more data behind the image, and are read
    whole; the mark of a preview, which a JPEG may hold before its pixels, does not count.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    if mark in file.read():
        return
    file.seek(0)
    body = file.read()
    if mark not in body[body.find(_JPEG_SCAN) + 1 :]:
        raise ValueError("it is cut short; its end is missing")


def _png_header(head: bytes) -> ImageHeader:
    if len(head) < _PNG_SUM + 4:
        raise ValueError("its header is cut short")
    signature, name, width, height, depth, colour = _PNG_HEAD.unpack_from(head)
    if signature != b"\x89PNG\r\n\x1a\n" or name != b"IHDR":
        raise ValueError("it does not begin as PNG does")
    (expected,) = struct.unpack_from(">I", head, _PNG_SUM)
    if zlib.crc32(head[_PNG_NAME:_PNG_SUM]) != expected:
        raise ValueError("the checksum of its header is wrong")
    channels = _PNG_CHANNELS.get(colour, 0)
    dtype = np.dtype(np.uint16 if depth == 16 else np.uint8)
    palette = b""
    if colour == _PNG_PALETTE:
        palette = next((body for name, body in png_parts(head) if name == b"PLTE"), b"")
        palette = b"" if grey_palette(palette) is not None else palette
    return ImageHeader(height, width, 0 if channels == 1 else channels, dtype, 1, palette)


def _jpeg_header(file: Any) -> ImageHeader:
    """The first frame header; segments before it are skipped by their lengths."""
    if file.read(2) != b"\xff\xd8":
        raise ValueError("it does not begin as JPEG does")
    while True:
        mark = file.read(2)
        if len(mark) < 2 or mark[0] != 0xFF:
            raise ValueError("it has no frame header")
        if mark[1] == 0xFF:  # a fill byte before a marker
            file.seek(-1, 1)
        elif mark[1] not in _JPEG_ALONE:
            (length,) = struct.unpack(">H", file.read(2))
            if mark[1] in _JPEG_FRAMES:
                bits, height, width, channels = struct.unpack(">BHHB", file.read(6))
                dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
                return ImageHeader(height, width, 0 if channels == 1 else channels, dtype)
            file.seek(length - 2, 1)


def read_image(address: Address, path: Path) -> np.ndarray:
    """The pixels of an image, (Y, X) or (Y, X, C), in native byte order.

    Raises
    ------
    StorageError
        If the file cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF:
            array = _tiff_image(path)
        elif suffix in PNG:
            data = path.read_bytes()
            is_palette = len(data) > 25 and data[25] == _PNG_PALETTE
            array = decode_palette_png(data) if is_palette else imagecodecs.png_decode(data)
        else:
            data = path.read_bytes()
            _require_end(io.BytesIO(data), _JPEG_END)  # the decoder would fill it with grey
            array = np.asarray(imagecodecs.jpeg_decode(data))
    except Exception as error:  # decoders of many codecs raise many things
        raise _unreadable(address, path, error) from error
    if array.ndim not in (2, 3):
        raise _unreadable(address, path, f"expected an image, got shape {array.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _unreadable(address: Address, path: Path, error: object) -> StorageError:
    return StorageError(f"volume {address}: section {path} cannot be read: {error}")
