"""Cell bodies: balls that no axis enters, where some of those that would have entered begin.

The bounds are divided into equal boxes, each with one body that lies in it whole, so the body
near a place is found without a search.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from volflow.core.geometry import Box
from volflow.synth.noise import uniform

CYTOPLASM = 0.6  # of a cell, between the nucleus and the membrane of the body
GAP, STRAY = 0.5, 5.0  # of a cell, and voxels: between a body and others' axes
APART = 5.0  # radii of a hole to each body's box, where bounds allow it
SALT = 120


class Ground(NamedTuple):
    """Where axes may be, and where bodies are.

    Attributes
    ----------
    low, high : float64 arrays, (3,)
        Least and greatest place of a site, voxels.
    start, pitch : float64 arrays, (3,)
        First voxel of the bounds, and voxels from one body's box to the next.
    counts : int64 array, (3,)
        Bodies along each axis.
    radius : float
        Of a body, voxels; 0: there are none.
    hole : float
        Voxels around the middle of a body that are kept free of others' axes.
    """

    low: np.ndarray
    high: np.ndarray
    start: np.ndarray
    pitch: np.ndarray
    counts: np.ndarray
    radius: float
    hole: float


def hole_of(cell: int, nucleus: int) -> tuple[float, float]:
    """Radius of a body, and of the hole it lies in, voxels; 0 without a nucleus."""
    if not nucleus:
        return 0.0, 0.0
    radius = nucleus + CYTOPLASM * cell
    return radius, radius + GAP * cell + STRAY


def least_side(cell: int, nucleus: int) -> int:
    """Voxels along each axis that a volume with a body needs."""
    return int(2.0 * hole_of(cell, nucleus)[1]) + 2 * cell


def ground_of(bounds: Box, cell: int, nucleus: int, margin: float) -> Ground:
    """The ground in bounds, sites keeping `margin` voxels away from their faces."""
    start, stop = (np.array(side, np.float64) for side in (bounds.start, bounds.stop))
    # a thin volume has no room for the whole margin
    away = np.minimum(margin, (stop - start - 1.0) / 2.0)
    radius, hole = hole_of(cell, nucleus)
    counts = np.ones(3, np.int64)
    if nucleus:
        counts = np.maximum(1, (stop - start) // (APART * hole)).astype(np.int64)
    pitch = (stop - start) / counts
    return Ground(start + away, stop - 1.0 - away, start, pitch, counts, radius, hole)


@numba.njit(cache=True, nogil=True)
def body_at(
    seed: np.uint64, ground: Ground, place: tuple[float, float, float]
) -> tuple[tuple[float, float, float], int]:
    """The middle of the body in whose box a place lies, and its number from 1."""
    at = np.empty(3, np.int64)
    for axis in range(3):
        index = int(np.floor((place[axis] - ground.start[axis]) / ground.pitch[axis]))
        at[axis] = min(ground.counts[axis] - 1, max(0, index))
    middle = np.empty(3)
    for axis in range(3):
        room = ground.pitch[axis] - 2.0 * ground.hole
        luck = uniform(seed + np.uint64(SALT + axis), at[0], at[1], at[2])
        middle[axis] = ground.start[axis] + at[axis] * ground.pitch[axis] + ground.hole
        middle[axis] += luck * room
    number = (at[0] * ground.counts[1] + at[1]) * ground.counts[2] + at[2] + 1
    return (middle[0], middle[1], middle[2]), number


@numba.njit(cache=True, nogil=True)
def in_hole(seed: np.uint64, ground: Ground, place: tuple[float, float, float]) -> bool:
    """Whether a place lies in the hole of a body."""
    if ground.radius <= 0.0:
        return False
    middle, _ = body_at(seed, ground, place)
    z, y, x = place[0] - middle[0], place[1] - middle[1], place[2] - middle[2]
    return z * z + y * y + x * x < ground.hole * ground.hole


def bodies_near(seed: np.uint64, ground: Ground, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Middles, float64 (N, 3), and numbers, int64 (N,), of the bodies that may reach into a box."""
    if ground.radius <= 0.0:
        return np.empty((0, 3)), np.empty(0, np.int64)
    ends = [
        np.clip((np.array(side) - ground.start) // ground.pitch, 0, ground.counts - 1)
        for side in (box.start, np.array(box.stop) - 1)
    ]
    ranges = [np.arange(int(a), int(b) + 1) for a, b in zip(*ends, strict=True)]
    boxes = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    found = [body_at(seed, ground, tuple(ground.start + (b + 0.5) * ground.pitch)) for b in boxes]
    middles = np.array([middle for middle, _ in found])
    return middles, np.array([number for _, number in found], np.int64)


def distances(box: Box, middle: np.ndarray) -> np.ndarray:
    """Voxels from a place to each voxel of a box, float64 (z, y, x)."""
    squares = [
        (np.arange(start, stop) - place) ** 2
        for start, stop, place in zip(box.start, box.stop, middle, strict=True)
    ]
    total: np.ndarray = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    away: np.ndarray = np.sqrt(total)
    return away


@numba.njit(cache=True, nogil=True)
def embody(
    start: np.ndarray,
    middle: np.ndarray,
    radius: float,
    number: int,
    free: float,
    who: np.ndarray,
    height: np.ndarray,
    wall: np.ndarray,
    organ: np.ndarray,
) -> None:
    """Put one body into the fields of `Leaning`, in place.

    Parameters
    ----------
    start : int64 array, (3,)
        Absolute coordinates of the first voxel.
    middle : float64 array, (3,)
    number : int
        Of the neurite in `who`.
    free : float
        Height of a core; others' cores are left alone.
    """
    depth, rows, width = who.shape
    for z in range(depth):
        for y in range(rows):
            for x in range(width):
                square = (start[0] + z - middle[0]) ** 2 + (start[1] + y - middle[1]) ** 2
                square += (start[2] + x - middle[2]) ** 2
                away = np.sqrt(square) - radius
                own = who[z, y, x] == number
                if away >= 0.0:
                    if not own:
                        wall[z, y, x] = min(wall[z, y, x], away)
                elif own or height[z, y, x] > free / 2.0:
                    # no membrane where a process begins
                    wall[z, y, x] = max(-away, wall[z, y, x]) if own else -away
                    who[z, y, x] = number
                    height[z, y, x] = free
                    organ[z, y, x] = free
