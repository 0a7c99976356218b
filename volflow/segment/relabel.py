"""Labels renamed by a table of old and new ids."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel


def relabel(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Labels replaced by their new ids; 0 stays 0.

    Parameters
    ----------
    labels : uint64, any shape
    before : uint64, (N,), ascending
        Old ids: every label that occurs except 0.
    after : uint64, (N,)
        The new id of each.

    Returns
    -------
    uint64, of the shape of `labels`

    Raises
    ------
    ValueError
        If a label is missing from the table.
    """
    flat = np.ascontiguousarray(labels).ravel()
    row = labels.shape[-1] if labels.ndim else 1
    plane = row * labels.shape[-2] if labels.ndim > 1 else row
    renamed, unknown = _relabel(flat, row, plane, before, after)
    if unknown:
        raise ValueError(
            f"label {unknown} is missing from the table of {len(before)} pieces; labels and table "
            f"must be computed on the same blocks"
        )
    return renamed.reshape(labels.shape)


@kernel
def _relabel(
    labels: np.ndarray, row: int, plane: int, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.uint64]:
    """The renamed labels, and a label that is missing from the table (0: none).

    The table is searched where a label differs from those before it along x, y (`row` voxels
    before) and z (`plane` voxels before).
    """
    renamed = np.zeros(len(labels), np.uint64)
    label, name = np.uint64(0), np.uint64(0)
    for voxel in range(len(labels)):
        if labels[voxel] != label:
            label = labels[voxel]
            if label == 0:
                name = np.uint64(0)
            elif voxel >= row and labels[voxel - row] == label:
                name = renamed[voxel - row]
            elif voxel >= plane and labels[voxel - plane] == label:
                name = renamed[voxel - plane]
            else:
                place = _place(before, label)
                if place == len(before):
                    return renamed, label
                name = after[place]
        renamed[voxel] = name
    return renamed, np.uint64(0)


@kernel
def _place(ids: np.ndarray, label: np.uint64) -> int:
    """The place of a label among ascending ids; their number if it is missing."""
    first, last = 0, len(ids)
    while first < last:
        middle = (first + last) >> 1
        if ids[middle] < label:
            first = middle + 1
        else:
            last = middle
    return first if first < len(ids) and ids[first] == label else len(ids)
