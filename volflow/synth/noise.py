"""Noise as a function of absolute coordinates: hashes, and smooth fields between hashed knots."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel

ONE = 1.0 / 9007199254740992.0  # 2^-53: the top 53 bits of a hash as a float in [0, 1)


@kernel
def hashed(seed: np.uint64, z: int, y: int | np.int64, x: int | np.int64) -> np.uint64:
    """64 well-mixed bits for a seed and a position; coordinates may be negative.

    Applies the finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) once per coordinate.
    """
    bits = seed
    for value in (z, y, x):
        bits = (bits ^ np.uint64(np.int64(value))) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
    return bits


@kernel
def uniform(seed: np.uint64, z: int, y: int | np.int64, x: int | np.int64) -> float:
    """A uniform number in [0, 1) for a seed and a position."""
    return np.float64(hashed(seed, z, y, x) >> np.uint64(11)) * ONE


@kernel
def normal(seed: np.uint64, z: int, y: int, x: int) -> float:
    """A number of mean 0 and standard deviation 1 for a seed and a position.

    The sum of four uniform 16-bit integers, standardised; approximately normal.
    """
    bits = hashed(seed, z, y, x)
    part = np.uint64(0xFFFF)
    total = (bits & part) + ((bits >> np.uint64(16)) & part)
    total += ((bits >> np.uint64(32)) & part) + (bits >> np.uint64(48))
    return (np.float64(total) - 131070.0) / 37836.9


@kernel
def smooth_at(seed: np.uint64, z: float, y: float, x: float) -> float:
    """The value at one position of a smooth field in [-1, 1] with knots at the integers."""
    kz, ky, kx = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    tz, ty, tx = _eased(z - kz), _eased(y - ky), _eased(x - kx)
    total = 0.0
    for dz in range(2):
        for dy in range(2):
            for dx in range(2):
                weight = (tz if dz else 1.0 - tz) * (ty if dy else 1.0 - ty)
                weight *= tx if dx else 1.0 - tx
                total += weight * (2.0 * uniform(seed, kz + dz, ky + dy, kx + dx) - 1.0)
    return total


@kernel
def _eased(t: float) -> float:
    """Interpolation weight with zero slope at the knots."""
    return t * t * (3.0 - 2.0 * t)


def salted(seed: np.uint64, salt: int) -> np.uint64:
    """The seed of one field among several."""
    return np.uint64((int(seed) + 0x632BE59BD9B4E019 * salt) & 0xFFFFFFFFFFFFFFFF)


def smooth(seed: np.uint64, salt: int, box: Box, spacing: int) -> np.ndarray:
    """A smooth field in [-1, 1] over a box, with knots `spacing` voxels apart, float32."""
    out = np.empty(box.shape, np.float32)
    _smooth(salted(seed, salt), box.start[0], box.start[1], box.start[2], spacing, out)
    return out


@kernel
def _smooth(seed: np.uint64, z0: int, y0: int, x0: int, spacing: int, out: np.ndarray) -> None:
    """Fill `out` by interpolation between knots, along z and y first, then along each row."""
    depth, height, width = out.shape
    first_z, first_y, first_x = z0 // spacing, y0 // spacing, x0 // spacing
    nz = (z0 + depth - 1) // spacing - first_z + 2
    ny = (y0 + height - 1) // spacing - first_y + 2
    nx = (x0 + width - 1) // spacing - first_x + 2
    knots = np.empty((nz, ny, nx), np.float32)
    for i in range(nz):
        for j in range(ny):
            for k in range(nx):
                knots[i, j, k] = 2.0 * uniform(seed, first_z + i, first_y + j, first_x + k) - 1.0
    row = np.empty(nx, np.float32)
    for z in range(depth):
        i, rest = divmod(z0 + z, spacing)
        i -= first_z
        tz = np.float32(_eased(rest / spacing))
        for y in range(height):
            j, rest = divmod(y0 + y, spacing)
            j -= first_y
            ty = np.float32(_eased(rest / spacing))
            for k in range(nx):
                low = knots[i, j, k] + ty * (knots[i, j + 1, k] - knots[i, j, k])
                high = knots[i + 1, j, k] + ty * (knots[i + 1, j + 1, k] - knots[i + 1, j, k])
                row[k] = low + tz * (high - low)
            for x in range(width):
                k, rest = divmod(x0 + x, spacing)
                k -= first_x
                tx = np.float32(_eased(rest / spacing))
                out[z, y, x] = row[k] + tx * (row[k + 1] - row[k])
