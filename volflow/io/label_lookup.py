"""The labels of a volume at many voxels, without reading the voxels between them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.io.volume import Volume

LARGEST_CELL = 128  # voxels per side read at once from a larger chunk
READERS = 4  # threads


def labels_at(volume: Volume, voxel: np.ndarray) -> np.ndarray:
    """The labels of voxels; each chunk of the volume is read at most once.

    Parameters
    ----------
    volume : Volume
        A volume of labels, without channels.
    voxel : int64 array, (N, 3)
        Absolute voxels z, y, x.

    Returns
    -------
    uint64 array, (N,)
        0 outside the volume.

    Raises
    ------
    ValueError
        If the volume has channels.
    StorageError
        If the volume is damaged.
    """
    if volume.channels:
        raise ValueError(f"{volume.address}: expected labels, got {volume.channels} channels")
    result = np.zeros(len(voxel), np.uint64)
    inside = (voxel >= volume.bounds.start) & (voxel < volume.bounds.stop)
    groups = _groups(np.flatnonzero(inside.all(axis=1)), voxel, volume)
    with ThreadPoolExecutor(READERS) as pool:
        for rows, labels in pool.map(lambda rows: _read(volume, voxel, rows), groups):
            result[rows] = labels
    return result


def _groups(rows: np.ndarray, voxel: np.ndarray, volume: Volume) -> Iterator[np.ndarray]:
    """Groups of rows whose voxels are in one cell; a cell is within one chunk."""
    chunk = np.array(volume.chunk)
    first, within = np.divmod(voxel[rows] - np.array(volume.bounds.start), chunk)
    cell = np.hstack([first, within // LARGEST_CELL])
    order = np.lexsort(cell.T)
    ends = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(axis=1)) + 1
    for part in np.split(rows[order], ends):
        if len(part):
            yield part


def _read(volume: Volume, voxel: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of rows, from the smallest box around their voxels."""
    places = voxel[rows]
    low = places.min(axis=0)
    labels = volume.read(Box(zyx(low.tolist()), zyx((places.max(axis=0) + 1).tolist())))
    return rows, labels[tuple((places - low).T)].astype(np.uint64)
