"""PNG images with a palette: labels are the indices, greys are the values of the palette.

Programs colour labels with a palette; several labels may share one colour.
Optimisers of PNG store grey images with few values as a palette of greys.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk of a PNG, as far as the bytes go."""
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + 8 + length]
        at += length + 12


def palette_indices(data: bytes) -> np.ndarray:
    """The indices of a PNG with a palette, (Y, X) uint8.

    Decodes it as a grey image of the same bits; what decoders spread over 0 to 255 is undone.
    """
    parts, depth = [], 8
    for name, body in png_parts(data):
        if name == b"IHDR":
            depth = body[8]
            body = body[:9] + b"\0" + body[10:]  # colour type: grey
        if name in (b"IHDR", b"IDAT", b"IEND"):
            parts.append(struct.pack(">I", len(body)) + name + body)
            parts.append(struct.pack(">I", zlib.crc32(name + body)))
    grey = np.asarray(imagecodecs.png_decode(_SIGNATURE + b"".join(parts)))
    return grey if depth == 8 else grey // np.uint8(255 // (2**depth - 1))


def grey_palette(palette: bytes) -> np.ndarray | None:
    """The greys of a palette of R, G, B, (N,) uint8; None if it has colours."""
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    return colours[:, 0] if (colours == colours[:, :1]).all() else None


def decode_palette_png(data: bytes) -> np.ndarray:
    """Greys of a PNG with a palette of greys, otherwise its indices, (Y, X) uint8.

    Raises
    ------
    ValueError
        If it has no palette, or an index beyond it.
    """
    palette = next((body for name, body in png_parts(data) if name == b"PLTE"), b"")
    indices = palette_indices(data)
    if int(indices.max(initial=0)) >= len(palette) // 3:
        raise ValueError(f"its palette has {len(palette) // 3} colours, got index {indices.max()}")
    greys = grey_palette(palette)
    return indices if greys is None else greys[indices]
