"""Labels of a volume under other names."""

from __future__ import annotations

import numpy as np
from numba import njit


def relabel(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The labels under their new names; 0 stays 0.

    Parameters
    ----------
    labels : uint64, any shape
    before : uint64, (N,), ascending
        Every label that occurs, but 0.
    after : uint64, (N,)

    Raises
    ------
    ValueError
        If a label has no new name.
    """
    flat = np.ascontiguousarray(labels).ravel()
    renamed, unknown = _relabel(flat, before, after)
    if unknown:
        raise ValueError(
            f"label {unknown} is in no row of the table of {len(before)} pieces, so labels and "
            f"table were not made on the same blocks"
        )
    return renamed.reshape(labels.shape)


@njit(cache=True, nogil=True)
def _relabel(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.uint64]:
    """The renamed labels and a label that is not in the table (0: none)."""
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
