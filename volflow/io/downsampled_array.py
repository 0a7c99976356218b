"""An image read at coarser voxels: each is the mean of a box of stored voxels.

The boxes start at multiples of the factor in absolute voxels, so those of an image and of any part
of it are the same; at its borders they average the voxels that are there (see `core.pooling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from volflow.core.geometry import Box, Resolution, Triple, Zyx, zyx
from volflow.core.pooling import pooled_image
from volflow.core.stage.units import quantity
from volflow.errors import StorageError
from volflow.io.formats.stored_array import StoredArray, placed

LARGEST = 64  # times a voxel's side
ROUNDED = 1e-4  # of a voxel size in metadata
DTYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")


def downsampling_factors(given: Triple | str | None, resolution: Resolution | None) -> Zyx:
    """Stored voxels per voxel that is read, z y x.

    Parameters
    ----------
    given : (int, int, int) or str, optional
        The factors, or a length: along each axis, voxels are halved in number until they are at
        least that long.
    resolution : (float, float, float), optional
        Voxel size z y x as stored, nanometres.

    Raises
    ------
    StorageError
        If the voxel size is needed and unknown, or far below the length.
    """
    if given is None:
        return zyx(1)
    if not isinstance(given, str):
        return zyx(given)
    if resolution is None:
        raise StorageError(
            f"downsample: {given}: expected a voxel size in the metadata, got none; declare the "
            f"volume's `resolution`, as stored, or give factors such as downsample: [1, 2, 2]"
        )
    least, factors = float(quantity(given).number) * (1 - ROUNDED), []
    for side in resolution:
        factor = 1
        while side * factor < least:
            factor *= 2
        factors.append(factor)
    if max(factors) > LARGEST:
        sides = " x ".join(f"{side:g}" for side in resolution)
        raise StorageError(
            f"downsample: {given}: expected factors of at most {LARGEST}, got {factors} for stored "
            f"voxels of {sides} nm"
        )
    return zyx(factors)


def coarser(resolution: Resolution | None, factors: Triple) -> Resolution | None:
    """The voxel size z y x of downsampled voxels, nanometres."""
    if resolution is None:
        return None
    z, y, x = (side * factor for side, factor in zip(resolution, factors, strict=True))
    return z, y, x


def bytes_to_average(shape: Triple, factors: Triple, dtype: np.dtype[Any], channels: int) -> int:
    """Bytes for reading a box of this shape, beyond its own: stored voxels, a copy, a mask."""
    if tuple(factors) == (1, 1, 1):
        return 0
    return Box((0, 0, 0), shape).zoom_in(factors).size * (2 * max(1, channels) * dtype.itemsize + 1)


class DownsampledArray:
    """A stored image whose voxels are averaged when they are read.

    Parameters
    ----------
    stored : StoredArray
    start : Zyx
        Absolute coordinate of its first voxel.
    resolution : tuple of float, optional
        Its voxel size z y x, nanometres.
    factors : Triple
        Stored voxels per voxel, z y x.

    Raises
    ------
    StorageError
        If it holds no image.
    """

    def __init__(
        self, stored: StoredArray, start: Zyx, resolution: Resolution | None, factors: Triple
    ) -> None:
        layout = stored.layout
        if layout.kind == "segmentation" or layout.dtype.name not in DTYPES:
            actual = layout.kind if layout.kind == "segmentation" else str(layout.dtype)
            raise StorageError(
                f"downsample: expected an image of {', '.join(DTYPES)}, as the mean of ids is no "
                f"id; got {actual}"
            )
        self.stored, self.factors = stored, zyx(factors)
        self._shift = start - layout.bounds.start
        self._bounds = layout.bounds.shift(self._shift)
        self.layout = replace(
            layout,
            bounds=self._bounds.zoom_out(factors),
            resolution=coarser(resolution, factors),
            chunk=zyx([-(-side // f) for side, f in zip(layout.chunk, factors, strict=True)]),
            shard=None,
        )
        self.scales, self.ours, self.notes = stored.scales, stored.ours, stored.notes

    def read(
        self, box: Box, channels: Sequence[int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read a box within the bounds: the means of all channels, or of the numbered ones."""
        cells = box.zoom_in(self.factors)
        inside = cells.clip(self._bounds)
        stored = self.stored.read(inside.shift(-self._shift), channels)
        if inside == cells:
            return placed(pooled_image(stored, self.factors), out)
        whole = np.zeros((*stored.shape[:-3], *cells.shape), stored.dtype)
        whole[(..., *inside.within(cells))] = stored
        exists = np.zeros(cells.shape, bool)
        exists[inside.within(cells)] = True
        return placed(pooled_image(whole, self.factors, exists), out)

    def write(self, box: Box, array: np.ndarray) -> None:
        """Refuse: it is only read."""
        raise StorageError("a downsampled volume is only read, never written")

    def verify(self, background: bool = False) -> None:
        """Check, from headers alone, that every part of the stored volume can be read."""
        self.stored.verify(background)
        self.notes = self.stored.notes
