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
    renamed, unknown = _relabel(flat, before, after)
    if unknown:
        raise ValueError(
            f"label {unknown} is missing from the table of {len(before)} pieces; labels and table "
            f"must be computed on the same blocks"
        )
    return renamed.reshape(labels.shape)


@kernel
def _relabel(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.uint64]:
    """The renamed labels, and a label that is missing from the table (0: none)."""
    renamed = np.zeros(len(labels), np.uint64)
    label, name = np.uint64(0), np.uint64(0)
    for voxel in range(len(labels)):
        if labels[voxel] != label:
            label = labels[voxel]
            if label == 0:
                name = np.uint64(0)
            else:
                row = np.searchsorted(before, label)
                if row == len(before) or before[row] != label:
                    return renamed, label
                name = after[row]
        renamed[voxel] = name
    return renamed, np.uint64(0)
