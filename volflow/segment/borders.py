"""Borders of segments moved to where the image says that they lie, voxel by voxel."""

from __future__ import annotations

import numpy as np
from numba import njit

FINE = 1 << 16  # parts of a unit of log odds: whole numbers compare alike everywhere
FARTHEST = 1 << 11  # log odds of a brightness: far beyond any affinity, and sums fit 32 bits


def moved_borders(segments: np.ndarray, affinity: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Segments, of which every voxel has gone with the neighbour that it most belongs with.

    All voxels look at their up to six neighbours at once, in segments as they were given. A
    neighbour counts the log odds of the affinity between the two plus its own brightness; the
    voxel gets the segment of the one that counts most, if a second neighbour is of it as well: a
    voxel alone would soon lie loose. Where several count the same, its own segment comes first,
    then the smaller id. What has no id (0) neither grows nor shrinks.

    Parameters
    ----------
    segments : uint64, (Z, Y, X)
        0 is none.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    brightness : float32, (Z, Y, X)
        In log odds.

    Returns
    -------
    uint64, (Z, Y, X)

    Raises
    ------
    ValueError
        If the arrays do not cover the same voxels, or a brightness is not a number.
    """
    if affinity.shape != (3, *segments.shape) or brightness.shape != segments.shape:
        raise ValueError(
            f"affinities {affinity.shape} and brightness {brightness.shape} do not cover the "
            f"segments {segments.shape}"
        )
    if not np.isfinite(brightness).all():
        raise ValueError("a brightness is not a number")
    whole = np.rint(np.clip(brightness, -FARTHEST, FARTHEST) * np.float32(FINE)).astype(np.int32)
    segments, affinity = np.ascontiguousarray(segments), np.ascontiguousarray(affinity)
    found: np.ndarray = _moved(segments, affinity, whole, LOG_ODDS)
    return found


def log_odds() -> np.ndarray:
    """Of each uint8 affinity, in parts of a unit, int32 (256,); certainty is half a step away."""
    probability = (np.arange(256) + 0.5) / 256
    found: np.ndarray = np.rint(np.log(probability / (1 - probability)) * FINE).astype(np.int32)
    return found


LOG_ODDS = log_odds()


@njit(cache=True, nogil=True)
def _moved(
    segments: np.ndarray, affinity: np.ndarray, brightness: np.ndarray, log_odds: np.ndarray
) -> np.ndarray:
    depth, height, width = segments.shape
    moved = segments.copy()
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                own = segments[z, y, x]
                if own == 0 or _neighbours_of(own, segments, z, y, x) == 6:
                    continue
                most, best = np.int64(-(1 << 40)), own
                for half in range(6):
                    axis, after = half >> 1, half & 1
                    to = (z, y, x)[axis] + 2 * after - 1
                    if to < 0 or to >= segments.shape[axis]:
                        continue
                    k = to if axis == 0 else z
                    j = to if axis == 1 else y
                    i = to if axis == 2 else x
                    other = segments[k, j, i]
                    if other == 0:
                        continue
                    joined = affinity[axis, k, j, i] if after else affinity[axis, z, y, x]
                    counts = np.int64(log_odds[joined]) + brightness[k, j, i]
                    if counts > most or (
                        counts == most and best != own and (other == own or other < best)
                    ):
                        most, best = counts, other
                if best != own and _neighbours_of(best, segments, z, y, x) > 1:
                    moved[z, y, x] = best
    return moved


@njit(cache=True, nogil=True)
def _neighbours_of(segment: int, segments: np.ndarray, z: int, y: int, x: int) -> int:
    """How many of a voxel's neighbours are of a segment."""
    depth, height, width = segments.shape
    count = 0
    count += z > 0 and segments[z - 1, y, x] == segment
    count += z + 1 < depth and segments[z + 1, y, x] == segment
    count += y > 0 and segments[z, y - 1, x] == segment
    count += y + 1 < height and segments[z, y + 1, x] == segment
    count += x > 0 and segments[z, y, x - 1] == segment
    count += x + 1 < width and segments[z, y, x + 1] == segment
    return int(count)
