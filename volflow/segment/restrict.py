"""Affinities restricted to a foreground: a pair is no surer than either voxel is tissue."""

from __future__ import annotations

import math

import numpy as np


def in_foreground(foreground: np.ndarray, least: float) -> np.ndarray:
    """Where the foreground, `round(255 p)`, is at least `255 least`; bool, of the same shape."""
    return np.asarray(foreground >= math.ceil(255 * least))


def restricted(affinity: np.ndarray, foreground: np.ndarray, least: float = 0.5) -> np.ndarray:
    """The minimum of each affinity and the foreground of the two voxels that it joins.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    foreground : uint8, (Z + 1, Y + 1, X + 1)
        `round(255 p)` of p, how surely a voxel is of a cell, over the same voxels and over one
        more before them along each axis.
    least : float, 0 to 1
        All pairs of a voxel whose foreground is below `255 least` get affinity 0.

    Returns
    -------
    uint8, (3, Z, Y, X)

    Raises
    ------
    ValueError
        If an array is not uint8, or the shapes do not belong together.

    References
    ----------
    SegNeuron (MICCAI 2024), as published by its authors: there an affinity is held against the
    foreground of its own voxel alone and nothing is cut off. Ours looks at both voxels, so that it
    does not matter from which end a pair is named, and is never above theirs.
    """
    wanted = tuple(side + 1 for side in affinity.shape[1:])
    if affinity.dtype != np.uint8 or affinity.ndim != 4 or len(affinity) != 3:
        raise ValueError(
            f"affinities must be uint8 (3, Z, Y, X); got {affinity.dtype} of {affinity.shape}"
        )
    if foreground.dtype != np.uint8 or foreground.shape != wanted:
        raise ValueError(
            f"the foreground must be uint8 of shape {wanted}, one voxel more on the low sides; "
            f"got {foreground.dtype} of {foreground.shape}"
        )
    kept = np.where(in_foreground(foreground, least), foreground, np.uint8(0))
    here = kept[1:, 1:, 1:]
    before = (kept[:-1, 1:, 1:], kept[1:, :-1, 1:], kept[1:, 1:, :-1])
    return np.stack(
        [np.minimum(a, np.minimum(here, b)) for a, b in zip(affinity, before, strict=True)]
    )
