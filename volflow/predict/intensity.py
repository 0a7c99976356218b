"""Intensities on one scale, whatever the microscope: from a volume's histogram, once.

Two percentiles of all voxels are mapped to fixed values. They come from a histogram of integers,
which adds up over blocks exactly, so they do not depend on how the volume was cut.
"""

from __future__ import annotations

import numpy as np


def intensity_histogram(array: np.ndarray) -> np.ndarray:
    """How many voxels have each intensity.

    Parameters
    ----------
    array : uint8 or uint16, any shape

    Returns
    -------
    int64, (256,) or (65536,)

    Raises
    ------
    ValueError
        If the intensities are of another dtype.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"intensities must be uint8 or uint16; got {array.dtype}")
    return np.bincount(array.ravel(), minlength=np.iinfo(array.dtype).max + 1).astype(np.int64)


def intensity_range(
    histogram: np.ndarray, low: float = 0.01, high: float = 0.99
) -> tuple[int, int]:
    """The intensities at two percentiles of a volume.

    Parameters
    ----------
    histogram : int64, (N,)
        Voxels of each intensity.
    low, high : float
        Fractions of all voxels, 0 to 1, low < high.

    Returns
    -------
    int, int
        The smallest intensities that at least these fractions of the voxels do not exceed.

    Raises
    ------
    ValueError
        If there are no voxels, or both are the same: the image is (nearly) constant.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"percentiles must be 0 <= low < high <= 1; got {low} and {high}")
    below = np.cumsum(histogram, dtype=np.int64)
    total = int(below[-1]) if below.size else 0
    if total == 0:
        raise ValueError("there are no voxels to take the intensity range of")
    # At least one voxel, or a low of 0 would find intensities that no voxel has.
    wanted = [max(1, int(np.ceil(fraction * total))) for fraction in (low, high)]
    first, last = (int(found) for found in np.searchsorted(below, wanted))
    if first >= last:
        raise ValueError(
            f"the image is constant: {high - low:.0%} of its voxels have the intensity {first}"
        )
    return first, last


def intensity_quantiles(histogram: np.ndarray, parts: int = 1000) -> np.ndarray:
    """The intensities at 0, 1/parts, 2/parts, ..., 1 of a volume, as `intensity_range` counts.

    Parameters
    ----------
    histogram : int64, (N,)
        Voxels of each intensity, at least one.
    parts : int

    Returns
    -------
    int64, (parts + 1,)
    """
    below = np.cumsum(histogram, dtype=np.int64)
    fractions = np.arange(parts + 1) / parts
    wanted = np.maximum(1, np.ceil(fractions * below[-1]))
    found: np.ndarray = np.searchsorted(below, wanted).astype(np.int64)
    return found


def normalise(
    array: np.ndarray,
    low: float,
    high: float,
    onto: tuple[float, float] = (-1.0, 1.0),
    clip: tuple[float, float] | None = (-2.0, 2.0),
) -> np.ndarray:
    """Intensities mapped linearly, `low` to `onto[0]` and `high` to `onto[1]`, then clipped.

    Parameters
    ----------
    array : any real dtype, any shape
    low, high : float
        As from `intensity_range`; low < high.

    Returns
    -------
    float32, of the same shape
        The arithmetic is elementwise, so a voxel's value depends on that voxel alone.

    Raises
    ------
    ValueError
        If the range is empty.
    """
    if not low < high:
        raise ValueError(f"low must be below high; got {low} and {high}")
    factor = np.float32((onto[1] - onto[0]) / (high - low))
    shifted: np.ndarray = array.astype(np.float32) - np.float32(low)
    shifted *= factor
    shifted += np.float32(onto[0])
    if clip is not None:
        np.clip(shifted, clip[0], clip[1], out=shifted)
    return shifted
