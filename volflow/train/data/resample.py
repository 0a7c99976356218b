"""Volumes resampled to another voxel size, so that one network can be trained on all of them."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Triple, zyx

ALIKE = 0.1  # relative difference of voxel sizes that is tolerated: augmentation covers as much

Nanometres = tuple[float, float, float]


def resampled_shape(shape: Triple, have: Nanometres, want: Nanometres, axes: str) -> Triple:
    """The shape of a volume after resampling.

    Parameters
    ----------
    shape : Triple
    have, want : three floats
        Nanometres per voxel, z y x.
    axes : str
        The axes to resample, a part of `zyx`. Along the others, and where the sizes differ by at
        most `ALIKE`, the side is unchanged.
    """
    factors = [a / b if name in axes else 1.0 for a, b, name in zip(have, want, "zyx", strict=True)]
    return zyx(
        [
            n if abs(factor - 1) <= ALIKE else max(1, round(n * factor))
            for n, factor in zip(shape, factors, strict=True)
        ]
    )


def resampled_image(image: np.ndarray, shape: Triple) -> np.ndarray:
    """An image resampled to a shape: area averages where voxels become larger.

    Where voxels become smaller, intensities are interpolated linearly.

    Parameters
    ----------
    image : uint8, uint16 or float32, (Z, Y, X)
    shape : Triple

    Returns
    -------
    the same dtype, of that shape; integers are rounded
    """
    if image.shape == tuple(shape):
        return image
    resampled = image.astype(np.float32)
    for axis, side in enumerate(shape):
        if side != image.shape[axis]:
            lines = np.moveaxis(resampled, axis, -1)
            resampled = np.moveaxis(lines @ _shares(image.shape[axis], side), -1, axis)
    if image.dtype.kind != "f":
        resampled = np.rint(resampled)
    rounded: np.ndarray = np.ascontiguousarray(resampled.astype(image.dtype))
    return rounded


def resampled_labels(labels: np.ndarray, shape: Triple) -> np.ndarray:
    """Labels resampled to a shape: each new voxel has the label at its centre.

    A majority vote would lose membranes and clefts, which are one voxel thin.

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
    """The weight of each old voxel in each new one, float32 (count, side); columns sum to 1."""
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
