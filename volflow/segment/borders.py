"""Segment borders refined by affinities and image brightness, voxel by voxel."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel

FINE = 1 << 16  # fixed-point steps per unit of log odds: integers compare alike on any machine
FARTHEST = 1 << 11  # clip for brightness, log odds: far beyond any affinity; sums fit in 32 bits


def moved_borders(segments: np.ndarray, affinity: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Segments after each voxel has moved to the segment of its best neighbour.

    All voxels are updated simultaneously from the given segments. The weight of a face neighbour
    is the log odds of the affinity to it plus its brightness. The voxel takes the segment of the
    neighbour with the largest weight, provided that a second neighbour belongs to the same
    segment; otherwise single voxels would become detached. Ties go to the voxel's own segment,
    then to the smaller id. Background (0) neither grows nor shrinks.

    Parameters
    ----------
    segments : uint64, (Z, Y, X)
        Segment ids; 0 is background.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    brightness : float32, (Z, Y, X)
        In log odds, finite.

    Returns
    -------
    uint64, (Z, Y, X)
        Each voxel's new segment id. Borders move by at most one voxel.

    Raises
    ------
    ValueError
        If the arrays do not cover the same voxels, or a brightness is not finite.
    """
    if affinity.shape != (3, *segments.shape) or brightness.shape != segments.shape:
        raise ValueError(
            f"expected affinities of shape {(3, *segments.shape)} and brightness of shape "
            f"{segments.shape}; got {affinity.shape} and {brightness.shape}"
        )
    if not np.isfinite(brightness).all():
        raise ValueError("brightness has values that are not finite")
    fixed_point = np.rint(np.clip(brightness, -FARTHEST, FARTHEST) * np.float32(FINE)).astype(
        np.int32
    )
    segments, affinity = np.ascontiguousarray(segments), np.ascontiguousarray(affinity)
    moved: np.ndarray = _moved(segments, affinity, fixed_point, LOG_ODDS)
    return moved


def log_odds() -> np.ndarray:
    """Log odds of each uint8 affinity in fixed point, int32 (256,), finite at 0 and 255."""
    probability = (np.arange(256) + 0.5) / 256
    odds: np.ndarray = np.rint(np.log(probability / (1 - probability)) * FINE).astype(np.int32)
    return odds


LOG_ODDS = log_odds()


@kernel
def _moved(
    segments: np.ndarray, affinity: np.ndarray, brightness: np.ndarray, log_odds: np.ndarray
) -> np.ndarray:
    depth, height, width = segments.shape
    moved = segments.copy()
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                own = segments[z, y, x]
                if own == 0 or _count_neighbours(own, segments, z, y, x) == 6:
                    continue
                largest, winner = np.int64(-(1 << 40)), own
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
                    across = affinity[axis, k, j, i] if after else affinity[axis, z, y, x]
                    weight = np.int64(log_odds[across]) + brightness[k, j, i]
                    if weight > largest or (
                        weight == largest and winner != own and (other == own or other < winner)
                    ):
                        largest, winner = weight, other
                if winner != own and _count_neighbours(winner, segments, z, y, x) > 1:
                    moved[z, y, x] = winner
    return moved


@kernel
def _count_neighbours(segment: int, segments: np.ndarray, z: int, y: int, x: int) -> int:
    """Number of a voxel's face neighbours that belong to a segment."""
    depth, height, width = segments.shape
    count = 0
    count += z > 0 and segments[z - 1, y, x] == segment
    count += z + 1 < depth and segments[z + 1, y, x] == segment
    count += y > 0 and segments[z, y - 1, x] == segment
    count += y + 1 < height and segments[z, y + 1, x] == segment
    count += x > 0 and segments[z, y, x - 1] == segment
    count += x + 1 < width and segments[z, y, x + 1] == segment
    return int(count)
