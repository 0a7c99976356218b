"""Affinities limited by a foreground probability, and labels masked by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.core.stage import Layer


def in_foreground(foreground: np.ndarray, least: float) -> np.ndarray:
    """Whether each voxel's foreground, `round(255 p)`, is at least `255 least`; bool."""
    return np.asarray(foreground >= math.ceil(255 * least))


def masked(labels: np.ndarray, foreground: np.ndarray | None, mask_below: float) -> np.ndarray:
    """Labels, 0 where the foreground is below a probability.

    Parameters
    ----------
    labels : integers, any shape
        Not changed.
    foreground : uint8, of the shape of `labels`, or None
        `round(255 p)` of the probability p that a voxel is part of a cell; None: nothing is masked.
    mask_below : float, 0 to 1
        Voxels whose foreground is below `255 mask_below` become 0; 0: none.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    if foreground is None or mask_below == 0:
        return labels
    if foreground.shape != labels.shape:
        raise ValueError(
            f"expected a foreground of the shape of the labels, {labels.shape}; got "
            f"{foreground.shape}"
        )
    return np.where(in_foreground(foreground, mask_below), labels, labels.dtype.type(0))


def check_masked(inputs: Mapping[str, Layer | None], mask_below: float) -> list[str]:
    """The problem of a mask without a foreground; empty if there is none."""
    if mask_below == 0 or "foreground" in inputs:
        return []
    return [
        f"mask_below: expected a volume `foreground` to mask with; got none. Connect one with "
        f"`in: {{foreground: NAME}}`, or leave out mask_below: {mask_below:g}"
    ]


def unread(mask_below: float) -> frozenset[str]:
    """The inputs that a stage does not read, as it masks nothing: the foreground, or none."""
    return frozenset() if mask_below else frozenset({"foreground"})


def without_mask(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a stage, without `mask_below` where that is 0.

    Runs from before there was such a parameter keep their digests, and so their finished blocks.
    """
    return {name: value for name, value in identity.items() if name != "mask_below" or value}


def restricted(affinity: np.ndarray, foreground: np.ndarray, least: float = 0.0) -> np.ndarray:
    """The minimum of each affinity and the foreground of the two voxels that it joins.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    foreground : uint8, (Z + 1, Y + 1, X + 1)
        `round(255 p)` of the probability p that a voxel is part of a cell, over the same voxels
        and one more before them along each axis.
    least : float, 0 to 1
        Pairs with a voxel whose foreground is below `255 least` get affinity 0; 0: none.

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
