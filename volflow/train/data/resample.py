"""Volumes brought to another voxel size, so that one network learns from all of them."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Triple, zyx

ALIKE = 0.1  # relative difference of voxel sizes that is left alone: augmentation does as much

Nanometres = tuple[float, float, float]


def resampled_shape(shape: Triple, have: Nanometres, want: Nanometres, axes: str) -> Triple:
    """How many voxels a volume has once it is resampled.

    Parameters
    ----------
    shape : Triple
    have, want : three floats
        Nanometres per voxel, z y x.
    axes : str
        Of `zyx`, those that are resampled. Along the others, and where the sizes differ by no
        more than `ALIKE`, the side stays.
    """
    factors = [a / b if name in axes else 1.0 for a, b, name in zip(have, want, "zyx", strict=True)]
    return zyx(
        [
            n if abs(factor - 1) <= ALIKE else max(1, round(n * factor))
            for n, factor in zip(shape, factors, strict=True)
        ]
    )


def resampled_image(image: np.ndarray, shape: Triple) -> np.ndarray:
    """An image of the same extent in other voxels, each the mean of what it covers.

    Where voxels become smaller, values between their middles are interpolated linearly.

    Parameters
    ----------
    image : uint8 or uint16, (Z, Y, X)
    shape : Triple

    Returns
    -------
    the same dtype, of that shape
        Where a side stays, nothing is done along it.
    """
    if image.shape == tuple(shape):
        return image
    found = image.astype(np.float32)
    for axis, side in enumerate(shape):
        if side != image.shape[axis]:
            lines = np.moveaxis(found, axis, -1)
            found = np.moveaxis(lines @ _shares(image.shape[axis], side), -1, axis)
    rounded: np.ndarray = np.ascontiguousarray(np.rint(found).astype(image.dtype))
    return rounded


def resampled_labels(labels: np.ndarray, shape: Triple) -> np.ndarray:
    """Labels of the same extent in other voxels, each what lies at its middle.

    Not the most frequent of what it covers: membranes and clefts, a voxel thin, would be lost.

    Parameters
    ----------
    labels : any dtype, (Z, Y, X)
    shape : Triple
    """
    if labels.shape == tuple(shape):
        return labels
    middles = [
        ((np.arange(side) + 0.5) * (n / side)).astype(int)
        for n, side in zip(labels.shape, shape, strict=True)
    ]
    picked: np.ndarray = labels[np.ix_(*middles)]
    return picked


def _shares(count: int, side: int) -> np.ndarray:
    """What each old voxel gives to each new one, float32 (count, side); columns sum to 1."""
    size = count / side  # of a new voxel, in old ones
    starts = np.arange(side) * size
    old = np.arange(count)[:, None]
    if size > 1:
        shares = np.minimum(old + 1, starts + size) - np.maximum(old, starts)
    else:
        shares = 1 - np.abs(old - np.clip(starts + (size - 1) / 2, 0, count - 1))
    shares = np.maximum(shares, 0)
    scaled: np.ndarray = (shares / shares.sum(axis=0)).astype(np.float32)
    return scaled
