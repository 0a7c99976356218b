"""HDF5 out: one dataset, in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from volflow.core.geometry import Resolution, Triple
from volflow.errors import StorageError
from volflow.io.export.slabs import Export
from volflow.io.export.staging import staged

ENCODINGS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "lzf": {"compression": "lzf", "shuffle": True},
    "raw": {},
}
DATASET = "volume"


def write_hdf5(
    export: Export,
    path: Path,
    resolution: Resolution | None,
    encoding: str,
    *,
    dataset: str = DATASET,
    chunk: Triple,
) -> None:
    """Write an HDF5 file of one dataset, axes (Z, Y, X) or (C, Z, Y, X).

    Its attributes are those of CREMI files (`resolution` and `offset` in nanometres, z y x) and
    of Fiji's HDF5 plugin (`element_size_um`).

    Parameters
    ----------
    export : Export
    path : Path
        It appears when it is complete, and replaces a file there.
    resolution : tuple of float or None
        Nanometres per voxel, z y x.
    encoding : str
        One of `ENCODINGS`; "" is gzip.
    dataset : str
        Its name in the file; slashes make groups.
    chunk : Triple
        Cut to the volume, and along z to as many sections as memory holds.

    Raises
    ------
    StorageError
        If there is no such encoding, or the file cannot be written.
    """
    if (encoding or "gzip") not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise StorageError(f"{path}: no encoding '{encoding}' in HDF5 (known: {known})")
    depth = export.slab_depth(min(chunk[0], export.bounds.shape.z))
    sides = (min(chunk[0], depth), *chunk[1:])
    chunks = tuple(min(c, n) for c, n in zip(sides, export.bounds.shape, strict=True))
    leading = export.shape[:-3]
    try:
        with staged(path) as partial, h5py.File(partial, "w") as file:
            data = file.create_dataset(
                dataset,
                export.shape,
                export.dtype,
                chunks=(*(1 for _ in leading), *chunks),
                **ENCODINGS[encoding or "gzip"],
            )
            if resolution is not None:
                start = export.bounds.start
                data.attrs["resolution"] = resolution
                data.attrs["offset"] = [a * r for a, r in zip(start, resolution, strict=True)]
                data.attrs["element_size_um"] = [side / 1000 for side in resolution]
            for box, slab in export.slabs(depth):
                data[(..., *box.within(export.bounds))] = slab
            file.flush()
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{path} cannot be written: {error}") from error
