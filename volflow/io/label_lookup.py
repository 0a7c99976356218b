"""The labels of a volume at many places, without reading what lies between them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.io.volume import Volume

LARGEST_CELL = 128  # voxels a side of what is read at once, however large a chunk is
READERS = 4  # threads


def labels_at(volume: Volume, voxel: np.ndarray) -> np.ndarray:
    """The labels of voxels, each chunk of the volume read once at most.

    Parameters
    ----------
    volume : Volume
        Without channels.
    voxel : int64 array, (N, 3)
        Absolute voxels z, y, x.

    Returns
    -------
    uint64 array, (N,)
        0 outside of the volume.

    Raises
    ------
    ValueError
        If the volume has channels.
    StorageError
        If what is stored is damaged.
    """
    if volume.channels:
        raise ValueError(f"{volume.address}: labels have no channels; got {volume.channels}")
    found = np.zeros(len(voxel), np.uint64)
    inside = (voxel >= volume.bounds.start) & (voxel < volume.bounds.stop)
    groups = _groups(np.flatnonzero(inside.all(axis=1)), voxel, volume)
    with ThreadPoolExecutor(READERS) as pool:
        for rows, labels in pool.map(lambda rows: _read(volume, voxel, rows), groups):
            found[rows] = labels
    return found


def _groups(rows: np.ndarray, voxel: np.ndarray, volume: Volume) -> Iterator[np.ndarray]:
    """Rows whose voxels lie in one cell; cells do not cross the borders of chunks."""
    chunk = np.array(volume.chunk)
    first, within = np.divmod(voxel[rows] - np.array(volume.bounds.start), chunk)
    cell = np.hstack([first, within // LARGEST_CELL])
    order = np.lexsort(cell.T)
    ends = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(axis=1)) + 1
    for part in np.split(rows[order], ends):
        if len(part):
            yield part


def _read(volume: Volume, voxel: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of rows, from the smallest box that holds them."""
    places = voxel[rows]
    low = places.min(axis=0)
    labels = volume.read(Box(zyx(low.tolist()), zyx((places.max(axis=0) + 1).tolist())))
    return rows, labels[tuple((places - low).T)].astype(np.uint64)
