"""Single images: TIFF, PNG and JPEG, their headers and their pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.tiff import TIFF_ERRORS

TIFF = (".tif", ".tiff")
PNG = (".png",)
JPEG = (".jpg", ".jpeg")
ENDINGS = (*TIFF, *PNG, *JPEG)

_PNG_HEAD = struct.Struct(">8s4x4sIIBB")  # signature, length, IHDR, width, height, depth, colour
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; a palette is unpacked to 3 or 4
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frame headers
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


class ImageHeader(NamedTuple):
    """Size and type of an image; `channels` 0 is a grey one, None one whose header has no count."""

    height: int
    width: int
    channels: int | None
    dtype: np.dtype[Any]

    def fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether an image (Y, X) or (Y, X, C) of this type has this header."""
        channels = shape[2] if len(shape) == 3 else 0
        known = self.channels is None or self.channels == channels
        return (self.height, self.width, self.dtype) == (*shape[:2], dtype) and known

    def __str__(self) -> str:
        channels = (self.channels,) if self.channels else ()
        return f"{(self.height, self.width, *channels)} {self.dtype}"


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
            return _png_header(file.read(32)) if suffix in PNG else _jpeg_header(file)
    except TIFF_ERRORS as error:
        raise _unreadable(address, path, error) from error


def _tiff_header(path: Path) -> ImageHeader:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        shape, dtype = tuple(page.shape), np.dtype(page.dtype).newbyteorder("=")
    if len(shape) not in (2, 3):
        raise ValueError(f"expected an image, got shape {shape}")
    return ImageHeader(shape[0], shape[1], shape[2] if len(shape) == 3 else 0, dtype)


def _png_header(head: bytes) -> ImageHeader:
    if len(head) < _PNG_HEAD.size:
        raise ValueError("its header is cut short")
    signature, name, width, height, depth, colour = _PNG_HEAD.unpack_from(head)
    if signature != b"\x89PNG\r\n\x1a\n" or name != b"IHDR":
        raise ValueError("it does not begin as PNG does")
    channels = _PNG_CHANNELS.get(colour)
    dtype = np.dtype(np.uint16 if depth == 16 else np.uint8)
    return ImageHeader(height, width, 0 if channels == 1 else channels, dtype)


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
            import tifffile

            array = np.asarray(tifffile.imread(path, key=0))
        elif suffix in PNG:
            array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
        else:
            array = np.asarray(imagecodecs.jpeg_decode(path.read_bytes()))
    except Exception as error:  # decoders of many codecs raise many things
        raise _unreadable(address, path, error) from error
    if array.ndim not in (2, 3):
        raise _unreadable(address, path, f"expected an image, got shape {array.shape}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _unreadable(address: Address, path: Path, error: object) -> StorageError:
    return StorageError(f"volume {address}: section {path} cannot be read: {error}")
