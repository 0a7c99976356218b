"""Volumes in files: TIFF, sections, HDF5, MRC and NIfTI, each written by its own library."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import mrcfile
import nibabel
import numpy as np
import tifffile

from tests.fuzz.damage import Damage
from tests.fuzz.kind import METADATA, VOXELS, Content, Kind, read_volume

SHAPE = (5, 24, 28)


def voxels(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Voxels of a smooth kind, so that they compress, none of them 0."""
    z, y, x = np.indices(shape)
    noise = np.random.default_rng(0).integers(0, 9, shape)
    return (20 + 7 * z + 3 * y + 2 * x + noise).astype(dtype)


def _read(name: str, folder: Path, intact: Content | None) -> dict[str, Any]:
    return read_volume(str(folder / name), intact)


def _unchecked(damage: Damage, warnings: tuple[str, ...]) -> str:
    return VOXELS


def _deleted_section(damage: Damage, warnings: tuple[str, ...]) -> str:
    """A first or last section that is not there is no gap in the numbers."""
    return "fewer sections are a stack, too" if damage.how == "deleted" else ""


def _unchecked_section(damage: Damage, warnings: tuple[str, ...]) -> str:
    return _deleted_section(damage, warnings) or VOXELS


# --- TIFF ----------------------------------------------------------------------------------------


def _tiff(folder: Path, **options: Any) -> None:
    tifffile.imwrite(folder / "v.tif", voxels(), **options)


def _tiff_big(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "v.tif", bigtiff=True, byteorder=">") as file:
        for section in voxels("uint16"):
            file.write(section, contiguous=False)


def _imagej(folder: Path) -> None:
    metadata = {"spacing": 0.04, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(
        folder / "v.tif", voxels(), imagej=True, resolution=(125, 125), metadata=metadata
    )


def _ome(folder: Path) -> None:
    sides = {"PhysicalSizeX": 0.008, "PhysicalSizeY": 0.008, "PhysicalSizeZ": 0.04}
    tifffile.imwrite(folder / "v.ome.tif", voxels(), metadata={"axes": "ZYX", **sides})


def _deflated(damage: Damage, warnings: tuple[str, ...]) -> str:
    """Deflated data have a checksum, tags have none."""
    import io

    with tifffile.TiffFile(io.BytesIO(damage.before)) as file:
        for page in file.pages:
            spans = zip(page.dataoffsets, page.databytecounts, strict=True)  # type: ignore[union-attr]
            if any(at <= damage.start and damage.stop <= at + size for at, size in spans):
                return VOXELS if damage.how == "repeated" else ""
    return METADATA


def _stacks(folder: Path) -> None:
    for number in range(3):
        tifffile.imwrite(folder / f"stack_{number}.tif", voxels() + np.uint8(number))


# --- sections ------------------------------------------------------------------------------------


def _sections(ending: str, folder: Path) -> None:
    encode: dict[str, Callable[[np.ndarray], bytes]] = {
        "png": imagecodecs.png_encode,
        "jpg": partial(imagecodecs.jpeg_encode, level=90),
    }
    (folder / "s").mkdir()
    for number, section in enumerate(voxels(), 1):
        path = folder / "s" / f"section_{number:03}.{ending}"
        if ending == "tif":
            tifffile.imwrite(path, section)
        else:
            path.write_bytes(encode[ending](section))


# --- HDF5, MRC, NIfTI ----------------------------------------------------------------------------


def _hdf5(folder: Path, **options: Any) -> None:
    with h5py.File(folder / "v.h5", "w") as file:
        data = file.create_dataset("volumes/raw", data=voxels("uint16"), **options)
        data.attrs.update({"resolution": [40.0, 8.0, 8.0], "offset": [80.0, 0.0, 0.0]})


def _mrc(folder: Path) -> None:
    with mrcfile.new(folder / "v.mrc") as file:
        file.set_data(voxels("int16"))
        file.voxel_size = (80.0, 80.0, 400.0)


def _nifti(name: str, folder: Path) -> None:
    image = nibabel.Nifti1Image(voxels("int16").T, np.diag([8.0, 8.0, 40.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, folder / "v.nii")
    if name.endswith(".gz"):
        packed = gzip.compress((folder / "v.nii").read_bytes(), mtime=0)
        (folder / name).write_bytes(packed)
        (folder / "v.nii").unlink()


def _file(
    name: str,
    make: Callable[[Path], None],
    file: str,
    unknowable: Callable[[Damage, tuple[str, ...]], str] = _unchecked,
) -> Kind:
    return Kind(name, make, partial(_read, file), unknowable)


FLETCHER: dict[str, Any] = {"chunks": (2, 12, 14), "compression": "gzip", "fletcher32": True}

IMAGE_FILES = [
    _file("tiff strips", partial(_tiff, rowsperstrip=5), "v.tif"),
    _file("tiff tiles", partial(_tiff, tile=(16, 16)), "v.tif"),
    _file("tiff deflate", partial(_tiff, compression="zlib"), "v.tif", _deflated),
    _file("tiff lzw", partial(_tiff, compression="lzw", rowsperstrip=5), "v.tif"),
    _file("tiff zstd", partial(_tiff, compression="zstd", tile=(16, 16)), "v.tif"),
    _file("bigtiff, big-endian", _tiff_big, "v.tif"),
    _file("tiff imagej", _imagej, "v.tif"),
    _file("tiff ome", _ome, "v.ome.tif"),
    _file("folder of stacks", _stacks, "", _unchecked_section),
    _file("sections png", partial(_sections, "png"), "s", _deleted_section),
    _file("sections jpeg", partial(_sections, "jpg"), "s", _unchecked_section),
    _file("sections tiff", partial(_sections, "tif"), "s", _unchecked_section),
    _file("hdf5", _hdf5, "v.h5"),
    _file("hdf5 gzip", lambda folder: _hdf5(folder, **FLETCHER), "v.h5"),
    _file("mrc", _mrc, "v.mrc"),
    _file("nifti", partial(_nifti, "v.nii"), "v.nii"),
    _file("nifti gz", partial(_nifti, "v.nii.gz"), "v.nii.gz", lambda damage, warnings: ""),
]
