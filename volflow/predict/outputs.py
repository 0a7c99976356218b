"""Outputs of networks as the integers that are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def to_uint8(values: np.ndarray, ranges: Sequence[tuple[float, float]] = ()) -> np.ndarray:
    """`round(255 p)` of network outputs, uint8; overwrites the given array.

    Parameters
    ----------
    values : float32, (C, ...)
    ranges : sequence of two floats
        For each channel, the values that are mapped to p = 0 and p = 1; values beyond are clipped.
        Empty: the values are p.
    """
    for channel, (low, high) in enumerate(ranges):
        if (low, high) != (0, 1):
            values[channel] -= low
            values[channel] /= high - low
    np.clip(values, 0, 1, out=values)
    values *= 255
    rounded: np.ndarray = np.rint(values, out=values).astype("uint8")
    return rounded
