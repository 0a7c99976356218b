"""Labels of tracks: the place of the first voxel that is written."""

from __future__ import annotations

import numpy as np


def labels_by_place(
    keys: np.ndarray, write: tuple[slice, slice], first: tuple[int, int]
) -> dict[int, int]:
    """The label that each track would have if no voxel of it had been written before.

    Parameters
    ----------
    keys : int64, (Y, X)
        The key of the track at each pixel of a section; 0 is background.
    write : (slice, slice)
        The pixels that the chain writes; empty where it only reads.
    first : (int, int)
        The label of a track whose first written voxel is the first of `write`, and of one in the
        same column of the next row, less the former.

    Returns
    -------
    dict of int to int
        By key, of the tracks with a pixel in `write`.
    """
    start, row = first
    written = keys[write]
    y, x = np.divmod(np.unique(written, return_index=True)[1], max(written.shape[1], 1))
    labels = (start + y * row + x).tolist()
    named = zip(np.unique(written).tolist(), labels, strict=True)
    return {key: label for key, label in named if key}
