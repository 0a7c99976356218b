"""NIfTI files, by `nibabel`.

Voxels are stored x, y, z with x fastest; a fourth axis is read as channels. The voxel size is that
of the header in its unit. Rotations, flips and the origin of the affine are not applied: voxels
are counted from 0 in the order in which they are stored.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.read_only import ReadOnlyArray, known_resolution, sliced
from volflow.io.formats.metadata.units import unit_nm
from volflow.io.formats.stored_array import stored_layout

ENDINGS = (".nii", ".nii.gz")
LARGEST_PACKED = 1 << 28  # bytes of a .nii.gz, unpacked: it is held in memory by each process


class NiftiFile(ReadOnlyArray):
    """The volume of a NIfTI file; only what a box needs is read, unless it is packed."""

    def __init__(self, address: Address, path: Path) -> None:
        super().__init__(address)
        self._path = path
        image = _open_image(address, path)
        self._voxels = _TransposedProxy(image.dataobj)
        shape = self._voxels.shape
        if len(shape) not in (3, 4):
            raise StorageError(
                f"volume {address}: expected axes x, y, z and at most one of channels; "
                f"got shape {image.shape}"
            )
        if path.name.lower().endswith(".gz"):
            self._voxels = self._unpacked(image)
        first = self._first_voxel()
        if first.dtype.kind not in "iuf":
            raise StorageError(f"volume {address}: expected integers or floats; got {first.dtype}")
        factor = unit_nm(image.header.get_xyzt_units()[0]) or 0.0
        x, y, z = (float(side) * factor for side in image.header.get_zooms()[:3])
        channels = shape[0] if len(shape) == 4 else 0
        resolution = known_resolution(z, y, x)
        chunk = (1, *shape[-2:])
        self.layout = stored_layout(shape[-3:], (0, 0, 0), resolution, first.dtype, channels, chunk)

    def _unpacked(self, image: Any) -> Any:
        """All voxels of a packed file, (C,) Z, Y, X.

        It is unpacked up to its end, where its checksum is.
        """
        itemsize = int(image.header.get_data_dtype().itemsize)
        size = int(image.dataobj.offset) + math.prod(image.shape) * itemsize
        if size > LARGEST_PACKED:
            raise StorageError(
                f"volume {self._address}: a packed NIfTI cannot be read in parts, and this one "
                f"unpacks to {size >> 20} MiB (limit {LARGEST_PACKED >> 20} MiB); "
                f"unpack it with gunzip"
            )

        def read() -> np.ndarray:
            with gzip.open(self._path) as file:
                body = file.read(size)
                while file.read(1 << 20):
                    pass
            whole = tuple(slice(None) for _ in self._voxels.shape)
            stored = _TransposedProxy(type(image).from_bytes(body).dataobj)
            return np.ascontiguousarray(stored[whole])

        return self._slice(read)

    def _first_voxel(self) -> np.ndarray:
        """The first voxel, scaled as all are: its dtype is that of the volume."""
        at = tuple(slice(0, 1) for _ in self._voxels.shape)
        return self._slice(lambda: np.asarray(self._voxels[at]))

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        return self._slice(
            lambda: np.ascontiguousarray(sliced(self._voxels, box, self.layout.bounds, channels))
        ).astype(self.layout.dtype, copy=False)

    def _slice(self, read: Any) -> np.ndarray:
        try:
            array: np.ndarray = read()
        except (OSError, ValueError, EOFError, zlib.error) as error:
            message = f"volume {self._address}: {self._path} cannot be read: {error}"
            raise StorageError(message) from error
        return array


class _TransposedProxy:
    """Voxels stored (X, Y, Z[, C]) as an array-like (Z, Y, X) or (C, Z, Y, X) that is sliced."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        shape = tuple(int(side) for side in stored.shape)
        self._lone = shape[3:] and all(side == 1 for side in shape[3:])
        self.shape = shape[:3][::-1] if self._lone else shape[::-1]
        self.ndim = len(self.shape)

    def __getitem__(self, at: tuple[slice | int, ...]) -> np.ndarray:
        stored = at[::-1]
        if self._lone:
            stored = (*stored, *(0 for _ in self._stored.shape[3:]))
        return np.asarray(self._stored[stored]).T


def _open_image(address: Address, path: Path) -> Any:
    import nibabel  # slow, and most runs read no NIfTI
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise StorageError(f"volume {address}: {path} cannot be read as NIfTI: {error}") from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise StorageError(f"volume {address}: {path} is {type(image).__name__}, not NIfTI")
    axes = nibabel.io_orientation(image.affine)[:, 0].tolist()  # type: ignore[no-untyped-call]
    if axes != [0, 1, 2]:
        raise StorageError(
            f"volume {address}: the affine of {path} permutes its axes; reorient the file "
            f"(nibabel.as_closest_canonical) or declare it in another format"
        )
    return image
