"""Affinities limited by a foreground probability."""

from __future__ import annotations

import math

import numpy as np


def in_foreground(foreground: np.ndarray, least: float) -> np.ndarray:
    """Whether each voxel's foreground, `round(255 p)`, is at least `255 least`; bool."""
    return np.asarray(foreground >= math.ceil(255 * least))


def restricted(affinity: np.ndarray, foreground: np.ndarray, least: float = 0.5) -> np.ndarray:
    """The minimum of each affinity and the foreground of the two voxels that it joins.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    foreground : uint8, (Z + 1, Y + 1, X + 1)
        `round(255 p)` of the probability p that a voxel is part of a cell, over the same voxels
        and one more before them along each axis.
    least : float, 0 to 1
        Pairs with a voxel whose foreground is below `255 least` get affinity 0.

    Returns
    -------
    uint8, (3, Z, Y, X)

    Raises
    ------
    ValueError
        If an array is not uint8, or the shapes do not match.

    References
    ----------
    SegNeuron (MICCAI 2024), code published by its authors. There, an affinity is limited by the
    foreground of its own voxel only, and there is no threshold. Here both voxels count, so the
    result does not depend on which end of a pair owns it; it is never larger than theirs.
    """
    expected = tuple(side + 1 for side in affinity.shape[1:])
    if affinity.dtype != np.uint8 or affinity.ndim != 4 or len(affinity) != 3:
        raise ValueError(
            f"expected uint8 affinities (3, Z, Y, X); got {affinity.dtype} of {affinity.shape}"
        )
    if foreground.dtype != np.uint8 or foreground.shape != expected:
        raise ValueError(
            f"expected a uint8 foreground of shape {expected}, one more voxel on the low sides; "
            f"got {foreground.dtype} of {foreground.shape}"
        )
    limit = np.where(in_foreground(foreground, least), foreground, np.uint8(0))
    here = limit[1:, 1:, 1:]
    before = (limit[:-1, 1:, 1:], limit[1:, :-1, 1:], limit[1:, 1:, :-1])
    return np.stack(
        [np.minimum(a, np.minimum(here, b)) for a, b in zip(affinity, before, strict=True)]
    )
