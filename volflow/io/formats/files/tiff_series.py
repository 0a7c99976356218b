"""The one image of a TIFF file: its series, compared with its pages and with its metadata."""

from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree

JOINED = ("shaped", "generic", "uniform")
"""Kinds of series in which programs that append page after page leave a stack."""


def image_series(file: Any) -> Any:
    """The series of an open `tifffile.TiffFile` that holds all of its pages.

    Equal pages that were appended one by one are joined in order.

    Raises
    ------
    ValueError
        If the file holds several images, or more or fewer pages than its metadata state.
    """
    import tifffile

    series = list(file.series)
    if not series:
        raise ValueError("expected an image, got none")
    first = series[0]
    if len(series) > 1:
        pages = [page for each in series for page in each.pages]
        single = all(len(each.pages) == 1 and each.kind in JOINED for each in series)
        looks = {(each.shape, each.axes, each.dtype) for each in series}
        if not single or len(looks) > 1:
            shapes = ", ".join(f"{each.axes} {each.shape}" for each in series[:4])
            raise ValueError(
                f"expected one image or equal pages, got {len(series)} images: {shapes}; split "
                f"the file"
            )
        first = tifffile.TiffPageSeries(
            pages, (len(pages), *first.shape), first.dtype, "I" + first.axes, kind="generic"
        )
    _require_all_pages(file, first)
    return first


def _require_all_pages(file: Any, series: Any) -> None:
    """Raise if pages are missing, or are there that the metadata do not know."""
    missing = [number for number, page in enumerate(series.pages) if page is None]
    if missing:
        raise ValueError(
            f"expected {len(series.pages)} pages as in its metadata, got "
            f"{len(series.pages) - len(missing)}; the first missing one is {missing[0]}"
        )
    counts = {"ImageJ": _imagej_count(file), "OME": _ome_count(file), "shape": _shaped(file)}
    planes = _planes(series)
    for kind, count in counts.items():
        if count is not None and count != planes:
            raise ValueError(f"expected {count} sections as in its {kind} metadata, got {planes}")
    pages = len(file.pages)
    if not series.is_multifile and pages > 1 and len(series.pages) != pages:
        raise ValueError(f"expected {len(series.pages)} pages as in its metadata, got {pages}")


def _planes(series: Any) -> int:
    """The number of planes (Y, X) of a series, samples of a pixel not counted."""
    sides = zip(series.axes, series.shape, strict=True)
    return math.prod(length for axis, length in sides if axis not in "YXS")


def _imagej_count(file: Any) -> int | None:
    metadata = file.imagej_metadata if file.is_imagej else None
    return int(metadata["images"]) if metadata and "images" in metadata else None


def _ome_count(file: Any) -> int | None:
    """Planes of the first image in OME-XML; None without, or if samples of a pixel are channels."""
    if not file.is_ome or not file.ome_metadata:
        return None
    root = ElementTree.fromstring(file.ome_metadata)
    pixels = next((each for each in root.iter() if each.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    channels = [each for each in pixels if each.tag.rpartition("}")[2] == "Channel"]
    if any(each.attrib.get("SamplesPerPixel", "1") != "1" for each in channels):
        return None
    return math.prod(int(pixels.attrib.get(f"Size{axis}", "1")) for axis in "ZCT")


def _shaped(file: Any) -> int | None:
    """Planes of the one array that tifffile's own metadata state; None without.

    Where the pages do not fit them, `file.series` and `file.is_shaped` are silent about it.
    """
    text = str(file.pages[0].description)
    if not text.startswith('{"shape":') or len(file.series) > 1:
        return None
    shape = json.loads(text)["shape"]
    planes: int = math.prod(shape[:-2])
    return planes if file.series[0].kind != "shaped" else None
