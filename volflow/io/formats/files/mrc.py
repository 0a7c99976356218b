"""MRC files, by `mrcfile`: electron tomograms and serial-section stacks of IMOD and SerialEM.

The voxel size is that of the header's cell, in angstrom. The first voxel is that of the header's
start (NXSTART, NYSTART, NZSTART); its origin is not read, because programs disagree on its sign.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.files.read_only import ReadOnlyArray, known_resolution, sliced
from volflow.io.formats.metadata.units import unit_nm
from volflow.io.formats.stored_array import stored_layout

ENDINGS = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
_AXES = {3: "z", 2: "y", 1: "x"}  # numbers of MAPC, MAPR, MAPS
_IMOD_STAMP = 1146047817
_IMOD_AT = 40  # bytes into `extra2`, which starts at byte 112 of the header
_SIGNED_BYTES = 1  # bit of IMOD's flags


class MrcFile(ReadOnlyArray):
    """The volume of an MRC file, mapped into memory."""

    def __init__(self, address: Address, path: Path) -> None:
        super().__init__(address)
        header, data = _mapped(address, path)
        order = [_AXES.get(int(header[name]), "") for name in ("maps", "mapr", "mapc")]
        if sorted(order) != ["x", "y", "z"] or data.ndim != 3:
            raise StorageError(
                f"volume {address}: expected one volume of axes z, y, x; got shape {data.shape}, "
                f"axes {', '.join(order)}"
            )
        self._voxels = data.transpose([order.index(axis) for axis in "zyx"])
        cell, sampling = header["cella"], [header[name] for name in ("mz", "my", "mx")]
        angstrom = unit_nm("angstrom") or 0
        sides = [
            float(cell[axis]) / int(count) * angstrom if count else 0
            for axis, count in zip("zyx", sampling, strict=True)
        ]
        # the starts belong to columns, rows and sections, as the array's axes before transposing
        starts = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]
        start = zyx([starts[order.index(axis)] for axis in "zyx"])
        shape = self._voxels.shape
        self.layout = stored_layout(
            shape, start, known_resolution(*sides), data.dtype, 0, (1, *shape[1:])
        )

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        array = sliced(self._voxels, box, self.layout.bounds, channels)
        return array.astype(self.layout.dtype, order="C")


def _mapped(address: Address, path: Path) -> tuple[Any, np.ndarray]:
    """The header, and the voxels as a memory map (sections, rows, columns)."""
    import mrcfile  # slow, and most runs read no MRC

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a size that does not match the header
            file = mrcfile.mmap(path, mode="r")
    except (OSError, ValueError, RuntimeWarning, MemoryError, OverflowError) as error:
        raise StorageError(f"volume {address}: {path} cannot be read as MRC: {error}") from error
    header, data = file.header.copy(), file.data
    if data is None or data.dtype.kind not in "iuf":
        raise StorageError(
            f"volume {address}: expected integers or floats; got MRC mode {int(header['mode'])}"
        )
    return header, data.view(np.uint8) if _has_unsigned_bytes(header) else data


def _has_unsigned_bytes(header: Any) -> bool:
    """Whether IMOD wrote mode 0 with unsigned bytes; the standard calls them signed."""
    if int(header["mode"]) != 0:
        return False
    extra = bytes(header["extra2"])
    stamp, flags = np.frombuffer(extra, header.dtype["mode"], 2, _IMOD_AT)
    return int(stamp) == _IMOD_STAMP and not int(flags) & _SIGNED_BYTES
