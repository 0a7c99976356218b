"""Pooling of boxes of voxels, and the mean of an image over them.

Boxes start at multiples of a factor in absolute coordinates. Voxels outside the bounds are not
counted:

    |---|---|---|---|---|       voxels 3..8 of a volume, bounds start at 3
        |-------|-------|       pooled by 2: output voxels 1..4;
    |---|                       output voxel 1 pools voxel 3 alone
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from volflow.core.geometry import Triple
from volflow.kernels import kernel

NO_MASK = np.ones((0, 0, 0), bool)  # stands for a mask in which every voxel exists


def pooled_image(image: np.ndarray, factor: Triple, exists: np.ndarray | None = None) -> np.ndarray:
    """The mean of each box of `factor` voxels; integer means are rounded, halves up.

    Parameters
    ----------
    image : integer or float array, (z, y, x) or (c, z, y, x)
        Starts and ends at multiples of `factor` in absolute coordinates; integers have at most 32
        bits.
    factor : Triple
        From 1 on, along z, y, x.
    exists : bool array, (z, y, x), optional
        False for voxels that are not counted. The output is 0 where a box has no voxels.

    Returns
    -------
    array of the same dtype, `factor` times smaller

    Raises
    ------
    ValueError
        If the dtype is not supported, or shapes or the factor do not fit.
    """
    if image.dtype.kind == "f":
        return pooled(_float_means, image, factor, exists)
    if image.dtype.kind not in "bui" or image.dtype.itemsize > 4:
        raise ValueError(
            f"expected a float image or one of integers of up to 32 bits; got {image.dtype}"
        )
    return pooled(_integer_means, image, factor, exists)


def pooled(
    pool: Callable[..., None],
    volume: np.ndarray,
    factor: Triple,
    exists: np.ndarray | None,
) -> np.ndarray:
    """Pool each channel of a volume by a kernel.

    Parameters
    ----------
    pool : kernel
        Called with a channel, the mask, the factors along z, y, x and the array to write to.
    volume, factor, exists
        As of `pooled_image`.

    Raises
    ------
    ValueError
        If shapes or the factor do not fit.
    """
    if volume.ndim not in (3, 4):
        raise ValueError(f"expected a volume (z, y, x) or (c, z, y, x); got shape {volume.shape}")
    shape = volume.shape[-3:]
    if any(f < 1 or side % f for side, f in zip(shape, factor, strict=True)):
        raise ValueError(
            f"expected pooling factors that divide the shape; got {factor} and {shape}"
        )
    if exists is not None and exists.shape != shape:
        raise ValueError(f"expected a mask of the volume's shape {shape}; got {exists.shape}")
    plain = np.ascontiguousarray(volume.view(np.uint8) if volume.dtype == bool else volume)
    known = NO_MASK if exists is None else np.ascontiguousarray(exists, dtype=bool)
    out = np.empty(
        (*volume.shape[:-3], *(side // f for side, f in zip(shape, factor, strict=True))),
        plain.dtype,
    )
    channels = zip(plain, out, strict=True) if volume.ndim == 4 else [(plain, out)]
    for channel, coarse in channels:
        pool(channel, known, factor[0], factor[1], factor[2], coarse)
    return out.view(volume.dtype)


@kernel
def _integer_means(
    image: np.ndarray, exists: np.ndarray, fz: int, fy: int, fx: int, out: np.ndarray
) -> None:
    """Write the mean of each box to `out`, halves rounded up."""
    all_exist = exists.size == 0
    depth, height, width = out.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                total, voxels = np.int64(0), 0
                for dz in range(fz):
                    for dy in range(fy):
                        for dx in range(fx):
                            vz, vy, vx = z * fz + dz, y * fy + dy, x * fx + dx
                            if all_exist or exists[vz, vy, vx]:
                                total += np.int64(image[vz, vy, vx])
                                voxels += 1
                out[z, y, x] = (2 * total + voxels) // (2 * voxels) if voxels else 0


@kernel
def _float_means(
    image: np.ndarray, exists: np.ndarray, fz: int, fy: int, fx: int, out: np.ndarray
) -> None:
    """Write the mean of each box to `out`, summed in double precision in z, y, x order."""
    all_exist = exists.size == 0
    depth, height, width = out.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                total, voxels = 0.0, 0
                for dz in range(fz):
                    for dy in range(fy):
                        for dx in range(fx):
                            vz, vy, vx = z * fz + dz, y * fy + dy, x * fx + dx
                            if all_exist or exists[vz, vy, vx]:
                                total += image[vz, vy, vx]
                                voxels += 1
                out[z, y, x] = total / voxels if voxels else 0.0
