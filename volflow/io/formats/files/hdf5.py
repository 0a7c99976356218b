"""Datasets of HDF5 files."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.containment import require_stored_inside, resolve_inside
from volflow.io.formats.files.read_only import ReadOnlyArray, sliced
from volflow.io.formats.omezarr import attributes_place
from volflow.io.formats.stored_array import stored_layout

ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
_CACHE: dict[str, Any] = {"rdcc_nbytes": 1 << 24, "rdcc_nslots": 10007}  # neighbours share chunks


class Hdf5(ReadOnlyArray):
    """A dataset of an HDF5 file, axes (Z, Y, X) or (C, Z, Y, X)."""

    def __init__(self, address: Address, path: Path) -> None:
        super().__init__(address)
        self._file = _open_file(address, path)
        weakref.finalize(self, self._file.close)
        data = self._dataset = self._find(dict(address.query).get("dataset", ""))
        lone = data.ndim == 4 and data.shape[0] == 1
        channels = 0 if data.ndim == 3 or lone else data.shape[0]
        resolution, start = attributes_place(data.attrs, f"volume {address}")
        if resolution is None:
            resolution, start = attributes_place(self._file.attrs, f"volume {address}")
        chunk = data.chunks[-3:] if data.chunks else (1, *data.shape[-2:])
        self.layout = stored_layout(data.shape[-3:], start, resolution, data.dtype, channels, chunk)

    def _find(self, name: str) -> Any:
        """The dataset of that name, or the only volume in the file."""
        where = f"volume {self._address}"
        data = resolve_inside(self._file, name, where) if name else None
        if isinstance(data, h5py.Dataset):
            require_stored_inside(self._file, data, where)
            if data.ndim in (3, 4):
                return data
        datasets = self._datasets()
        volumes = [path for path, item in datasets.items() if item.ndim in (3, 4)]
        if not name and len(volumes) == 1:
            require_stored_inside(self._file, datasets[volumes[0]], where)
            return datasets[volumes[0]]
        listed = ", ".join(f"{path} {item.shape}" for path, item in datasets.items()) or "none"
        problem = f"no dataset '{name}' of axes (c,) z, y, x" if name else "no dataset is named"
        raise StorageError(
            f"volume {self._address}: {problem}; add ?dataset=NAME (datasets: {listed})"
        )

    def _datasets(self) -> dict[str, Any]:
        """All datasets of the file by name."""
        datasets: dict[str, Any] = {}

        def visit(path: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                datasets[path] = item

        self._file.visititems(visit)
        return datasets

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        lone = self._dataset.ndim == 4 and not self.layout.channels
        try:
            array = sliced(self._dataset, box, self.layout.bounds, [0] if lone else channels)
            return array[0] if lone else array
        except _ERRORS as error:
            raise StorageError(f"volume {self._address}, box {box}: {error}") from error


def _open_file(address: Address, path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", **_CACHE)
    except OSError as error:
        try:  # on a file system that knows no locks
            return h5py.File(path, "r", locking=False, **_CACHE)
        except OSError:
            pass
        raise StorageError(f"volume {address}: {path} is no readable HDF5: {error}") from error
