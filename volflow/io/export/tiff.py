"""TIFF out: one file of many pages, or a folder of one file per section.

What the metadata are depends on the type, so that as many programs as possible find the voxel
size:

    ImageJ    uint8, uint16 and float32 below 4 GB: Fiji opens it with its scale
    OME       other types but 64-bit integers, and larger files: Fiji's Bio-Formats, napari, ...
    tifffile  64-bit integers, which neither knows

Files of 4 GB and more before compression are BigTIFF. TIFF holds no offset.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from volflow.core.geometry import Resolution
from volflow.errors import StorageError
from volflow.io.export.slabs import Export
from volflow.io.export.staging import staged

ENCODINGS = ("zlib", "lzw", "zstd", "raw")
CLASSIC = 2**32 - 2**25  # bytes before compression that a plain TIFF holds with its metadata
THREADS = 4  # that compress
NM_PER_CM = 1e7
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")


def write_tiff(export: Export, path: Path, resolution: Resolution | None, encoding: str) -> None:
    """Write one TIFF file of all sections; axes (Z, Y, X) or (Z, C, Y, X).

    Parameters
    ----------
    export : Export
    path : Path
        It appears when it is complete, and replaces a file there.
    resolution : tuple of float or None
        Nanometres per voxel, z y x.
    encoding : str
        One of `ENCODINGS`; "" is zlib.

    Raises
    ------
    StorageError
        If there is no such encoding, or the file cannot be written.
    """
    import tifffile

    settings = _settings(export, resolution)
    compression = _compression(encoding, path)
    pages = _pages(export)
    flavour = settings.pop("file")
    try:
        with staged(path) as partial, tifffile.TiffWriter(partial, **flavour) as file:
            file.write(
                pages,
                shape=_page_order(export.shape),
                dtype=export.dtype,
                photometric="minisblack",
                compression=compression,
                maxworkers=THREADS,
                software="volflow",
                **settings,
            )
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def write_sections(
    export: Export, folder: Path, resolution: Resolution | None, encoding: str
) -> None:
    """Write a folder of one TIFF file per section, named by its z: `z00042.tif`.

    See `write_tiff`. The folder appears when all sections are written.
    """
    import tifffile

    compression = _compression(encoding, folder)
    first = max(0, export.bounds.start.z)  # a negative number would not sort
    digits = max(5, len(str(first + export.bounds.shape.z)))
    settings: dict[str, Any] = {"metadata": None}
    if resolution is not None:
        _, y, x = resolution
        settings["resolution"] = (NM_PER_CM / x, NM_PER_CM / y)
        settings["resolutionunit"] = "CENTIMETER"
    pages = _pages(export)
    channels = export.volume.channels or 1
    try:
        with staged(folder) as partial:
            partial.mkdir()
            for section in range(export.bounds.shape.z):
                planes = [next(pages) for _ in range(channels)]
                tifffile.imwrite(
                    partial / f"z{first + section:0{digits}}.tif",
                    np.stack(planes, axis=-1) if export.volume.channels else planes[0],
                    photometric="minisblack",
                    planarconfig="contig" if export.volume.channels else None,
                    compression=compression,
                    maxworkers=THREADS,
                    software="volflow",
                    **settings,
                )
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}") from error


def _pages(export: Export) -> Iterator[np.ndarray]:
    """The planes (Y, X), channels of a section one after another."""
    for _, slab in export.slabs(export.slab_depth()):
        if slab.ndim == 4:
            slab = slab.swapaxes(0, 1)
        yield from slab.reshape(-1, *slab.shape[-2:])


def _page_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (shape[1], shape[0], *shape[2:])


def _compression(encoding: str, path: Path) -> str | None:
    encoding = encoding or "zlib"
    if encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise StorageError(f"{path}: no encoding '{encoding}' in TIFF (known: {known})")
    return None if encoding == "raw" else encoding


def _settings(export: Export, resolution: Resolution | None) -> dict[str, Any]:
    """Arguments of the writer (`file`) and of writing: which metadata, and the voxel size."""
    axes = "ZYX" if len(export.shape) == 3 else "ZCYX"
    big = export.nbytes >= CLASSIC
    metadata: dict[str, Any] = {"axes": axes}
    settings: dict[str, Any] = {"metadata": metadata}
    if resolution is not None:
        z, y, x = resolution
        settings["resolution"] = (NM_PER_CM / x, NM_PER_CM / y)
        settings["resolutionunit"] = "CENTIMETER"
    if export.dtype.name in _IMAGEJ_TYPES and not big:
        settings["file"] = {"imagej": True}
        if resolution is not None:
            settings["resolution"] = (1 / x, 1 / y)  # pixels per unit, as ImageJ has it
            del settings["resolutionunit"]
            metadata |= {"unit": "nm", "spacing": z}
    elif export.dtype.name in ("uint64", "int64", "float16"):
        settings["file"] = {"bigtiff": big}
        if resolution is not None:
            metadata["voxel_size_nm_zyx"] = list(resolution)
    else:
        settings["file"] = {"bigtiff": big, "ome": True}
        if resolution is not None:
            for axis, side in zip("ZYX", resolution, strict=True):
                metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "nm"}
    return settings
