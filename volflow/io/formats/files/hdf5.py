"""Datasets of HDF5 files."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volflow.core.geometry import Box
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.formats.containment import require_stored_inside, resolve_inside
from volflow.io.formats.files.read_only import ReadOnlyArray, sliced
from volflow.io.formats.metadata.attributes import attributes_metadata
from volflow.io.formats.metadata.axes import Metadata, place
from volflow.io.formats.stored_array import stored_layout

if TYPE_CHECKING:
    import h5py

ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
_CACHE: dict[str, Any] = {"rdcc_nbytes": 1 << 24, "rdcc_nslots": 10007}  # neighbours share chunks


class Hdf5(ReadOnlyArray):
    """A dataset of an HDF5 file, read as (Z, Y, X) or (C, Z, Y, X)."""

    def __init__(self, address: Address, path: Path) -> None:
        super().__init__(address)
        self._file = _open_file(address, path)
        weakref.finalize(self, self._file.close)
        data = self._dataset = self._find(dict(address.query).get("dataset", ""))
        read = place(self._metadata(), data.shape, f"volume {address}")
        self.notes, self._order = read.notes, read.order
        z, y, x = read.order[-3:]
        channels = data.shape[read.order[0]] if len(read.order) == 4 else 0
        sides = data.chunks or (*(1 for _ in data.shape[:-2]), *data.shape[-2:])
        shape, chunk = ([each[axis] for axis in (z, y, x)] for each in (data.shape, sides))
        self.layout = stored_layout(shape, read.start, read.resolution, data.dtype, channels, chunk)

    def _metadata(self) -> Metadata:
        """The attributes of the dataset; the voxel size may be those of its group or the file."""
        data = self._dataset
        metadata = attributes_metadata(dict(data.attrs), f"dataset {data.name}")
        labels = [dimension.label for dimension in data.dims]
        if metadata.names is None and any(labels):
            metadata = replace(metadata, names=labels)
        for group in (data.parent, self._file):
            if metadata.scale is not None:
                break
            above = attributes_metadata(dict(group.attrs), f"group {group.name}")
            if above.scale is not None:
                names = metadata.names if metadata.names is not None else above.names
                offset = metadata.translation
                offset = above.translation if offset is None else offset
                metadata = replace(above, names=names, translation=offset)
        return metadata

    def _find(self, name: str) -> Any:
        """The dataset of that name, or the only volume in the file."""
        import h5py

        where = f"volume {self._address}"
        data = resolve_inside(self._file, name, where) if name else None
        if isinstance(data, h5py.Dataset):
            require_stored_inside(self._file, data, where)
            if data.ndim in (3, 4, 5):
                return data
        datasets = self._datasets()
        volumes = [path for path, item in datasets.items() if item.ndim in (3, 4, 5)]
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
        import h5py

        datasets: dict[str, Any] = {}

        def visit(path: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                datasets[path] = item

        self._file.visititems(visit)
        return datasets

    def _read(self, box: Box, channels: Sequence[int] | None) -> np.ndarray:
        try:
            return sliced(_Ordered(self._dataset, self._order), box, self.layout.bounds, channels)
        except _ERRORS as error:
            raise StorageError(f"volume {self._address}, box {box}: {error}") from error


class _Ordered:
    """A dataset as an array-like (Z, Y, X) or (C, Z, Y, X); axes left out have length 1."""

    def __init__(self, dataset: h5py.Dataset, order: Sequence[int]) -> None:
        self._dataset, self._order, self.ndim = dataset, order, len(order)

    def __getitem__(self, at: tuple[slice | int, ...]) -> np.ndarray:
        where: list[slice | int] = [0] * self._dataset.ndim
        for axis, part in zip(self._order, at, strict=True):
            where[axis] = part
        stored = np.asarray(self._dataset[tuple(where)])
        left = [axis for axis, part in zip(self._order, at, strict=True) if isinstance(part, slice)]
        return stored.transpose([sorted(left).index(axis) for axis in left])


def _open_file(address: Address, path: Path) -> h5py.File:
    import h5py  # which most runs need not

    try:
        return h5py.File(path, "r", **_CACHE)
    except FileNotFoundError as error:
        raise StorageError(f"volume {address}: there is no file {path}") from error
    except OSError as error:
        try:  # on a file system that knows no locks
            return h5py.File(path, "r", locking=False, **_CACHE)
        except OSError:
            pass
        raise StorageError(f"volume {address}: {path} is no readable HDF5: {error}") from error
