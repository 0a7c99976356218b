"""Intensity normalisation by percentiles of a volume's histogram.

Two percentiles of all voxels are mapped to fixed values. They come from integer histograms, which
add up exactly over blocks, so they do not depend on how the volume was split.
"""

from __future__ import annotations

import numpy as np

from volflow.core.stage import Layer, Record

QUANTILE_PARTS = 1000  # quantiles are stored in steps of 1/1000


def intensity_histogram(array: np.ndarray) -> np.ndarray:
    """Number of voxels of each intensity.

    Parameters
    ----------
    array : uint8 or uint16, any shape

    Returns
    -------
    int64, (256,) or (65536,)

    Raises
    ------
    ValueError
        If the array has another dtype.
    """
    check_integers(array)
    return np.bincount(array.ravel(), minlength=np.iinfo(array.dtype).max + 1).astype(np.int64)


def check_integers(array: np.ndarray) -> None:
    """Raise a ValueError if intensities are neither uint8 nor uint16."""
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected uint8 or uint16 intensities; got {array.dtype}")


def intensity_range(
    histogram: np.ndarray, low: float = 0.01, high: float = 0.99
) -> tuple[int, int]:
    """The intensities at two percentiles of a volume.

    Parameters
    ----------
    histogram : int64, (N,)
        Number of voxels of each intensity.
    low, high : float
        Fractions of all voxels, 0 to 1, low < high.

    Returns
    -------
    int, int
        The smallest intensities that at least these fractions of the voxels do not exceed.

    Raises
    ------
    ValueError
        If there are no voxels, or both intensities are equal: the image is (nearly) constant.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"expected percentiles 0 <= low < high <= 1; got {low} and {high}")
    below = np.cumsum(histogram, dtype=np.int64)
    total = int(below[-1]) if below.size else 0
    if total == 0:
        raise ValueError("intensity range: expected at least one voxel, got none")
    # At least one voxel: a low of 0 would otherwise give an intensity that no voxel has.
    counts = [max(1, int(np.ceil(fraction * total))) for fraction in (low, high)]
    first, last = (int(intensity) for intensity in np.searchsorted(below, counts))
    check_not_constant(first, last, high - low)
    return first, last


def check_not_constant(first: int, last: int, fraction: float) -> None:
    """Raise a ValueError if the intensities at two percentiles, `fraction` apart, are equal."""
    if first >= last:
        raise ValueError(
            f"the image is constant: {fraction:.0%} of its voxels have the intensity {first}"
        )


def intensities_at(intensity: Record, low: float, high: float) -> tuple[int, int]:
    """The intensities at two quantiles of a volume, from the record of the stage `intensity`.

    Parameters
    ----------
    intensity : Record
        Its column `quantiles` has the intensities at 0, 1/1000, ..., 1.
    low, high : float
        Fractions of all voxels, 0 to 1, low < high.

    Raises
    ------
    ValueError
        If both are equal: the image is constant.
    """
    first, last = (int(intensity["quantiles"][round(f * QUANTILE_PARTS)]) for f in (low, high))
    check_not_constant(first, last, high - low)
    return first, last


def check_image(image: Layer | None) -> list[str]:
    """The problem with the dtype of a volume as an image; empty if there is none."""
    if image is None or image.dtype in ("uint8", "uint16"):
        return []
    hint = ""
    if np.dtype(image.dtype).kind == "f":
        hint = "; `scale` of the volume converts it to uint8"
    return [f"em: expected uint8 or uint16; got {image.dtype}{hint}"]


def intensity_quantiles(histogram: np.ndarray, parts: int = QUANTILE_PARTS) -> np.ndarray:
    """The intensities at the quantiles 0, 1/parts, 2/parts, ..., 1, as in `intensity_range`.

    Parameters
    ----------
    histogram : int64, (N,)
        Number of voxels of each intensity; at least one voxel in all.
    parts : int
        Number of intervals between quantiles.

    Returns
    -------
    int64, (parts + 1,)
    """
    below = np.cumsum(histogram, dtype=np.int64)
    fractions = np.arange(parts + 1) / parts
    counts = np.maximum(1, np.ceil(fractions * below[-1]))
    quantiles: np.ndarray = np.searchsorted(below, counts).astype(np.int64)
    return quantiles


def normalise(
    array: np.ndarray,
    low: float,
    high: float,
    target: tuple[float, float] = (-1.0, 1.0),
    clip: tuple[float, float] | None = (-2.0, 2.0),
) -> np.ndarray:
    """Intensities mapped linearly, `low` to `target[0]` and `high` to `target[1]`, then clipped.

    Parameters
    ----------
    array : any real dtype, any shape
    low, high : float
        Intensities as from `intensity_range`; low < high.
    target : two floats
        The values that `low` and `high` are mapped to.
    clip : two floats or None
        Bounds of the mapped values; None: not clipped.

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
        raise ValueError(f"expected low below high; got {low} and {high}")
    factor = np.float32((target[1] - target[0]) / (high - low))
    shifted: np.ndarray = array.astype(np.float32) - np.float32(low)
    shifted *= factor
    shifted += np.float32(target[0])
    if clip is not None:
        np.clip(shifted, clip[0], clip[1], out=shifted)
    return shifted
