"""Cell bodies: balls that axes do not enter; some of the axes that end at one are its processes.

The bounds are divided into equal boxes with one whole body each, so that the body near a position
is computed directly, without a search.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel
from volflow.synth.noise import uniform

CYTOPLASM = 0.6  # of a cell, between the nucleus and the membrane of the body
GAP, STRAY = 0.5, 5.0  # of a cell, and voxels: between a body and the axes of other neurites
APART = 5.0  # side of each body's box in radii of the hole, where the bounds allow it
SALT = 120


class BodyGrid(NamedTuple):
    """The region for sites of axes, and the grid of boxes with a body each.

    Attributes
    ----------
    low, high : float64 arrays, (3,)
        Smallest and largest position of a site, voxels.
    start, pitch : float64 arrays, (3,)
        First voxel of the bounds, and voxels from one body's box to the next.
    counts : int64 array, (3,)
        Number of bodies along each axis.
    radius : float
        Radius of a body, voxels; 0: no bodies.
    hole : float
        Radius of the hole around the centre of a body that axes of others do not enter, voxels.
    """

    low: np.ndarray
    high: np.ndarray
    start: np.ndarray
    pitch: np.ndarray
    counts: np.ndarray
    radius: float
    hole: float


def body_radii(cell: int, nucleus: int) -> tuple[float, float]:
    """Radius of a body and radius of the hole around it, voxels; 0 without a nucleus."""
    if not nucleus:
        return 0.0, 0.0
    radius = nucleus + CYTOPLASM * cell
    return radius, radius + GAP * cell + STRAY


def least_side(cell: int, nucleus: int) -> int:
    """Smallest side, in voxels, of a volume with a body."""
    return int(2.0 * body_radii(cell, nucleus)[1]) + 2 * cell


def body_grid(bounds: Box, cell: int, nucleus: int, margin: float) -> BodyGrid:
    """The grid of bodies in bounds; sites stay `margin` voxels away from the faces."""
    start, stop = (np.array(side, np.float64) for side in (bounds.start, bounds.stop))
    # A thin volume has no room for the whole margin.
    away = np.minimum(margin, (stop - start - 1.0) / 2.0)
    radius, hole = body_radii(cell, nucleus)
    counts = np.ones(3, np.int64)
    if nucleus:
        counts = np.maximum(1, (stop - start) // (APART * hole)).astype(np.int64)
    pitch = (stop - start) / counts
    return BodyGrid(start + away, stop - 1.0 - away, start, pitch, counts, radius, hole)


@kernel
def body_at(
    seed: np.uint64, bodies: BodyGrid, position: tuple[float, float, float]
) -> tuple[tuple[float, float, float], int]:
    """The centre of the body whose box contains a position, and its number from 1."""
    at = np.empty(3, np.int64)
    for axis in range(3):
        index = int(np.floor((position[axis] - bodies.start[axis]) / bodies.pitch[axis]))
        at[axis] = min(bodies.counts[axis] - 1, max(0, index))
    centre = np.empty(3)
    for axis in range(3):
        slack = bodies.pitch[axis] - 2.0 * bodies.hole
        fraction = uniform(seed + np.uint64(SALT + axis), at[0], at[1], at[2])
        centre[axis] = bodies.start[axis] + at[axis] * bodies.pitch[axis] + bodies.hole
        centre[axis] += fraction * slack
    number = (at[0] * bodies.counts[1] + at[1]) * bodies.counts[2] + at[2] + 1
    return (centre[0], centre[1], centre[2]), number


@kernel
def in_hole(seed: np.uint64, bodies: BodyGrid, position: tuple[float, float, float]) -> bool:
    """Whether a position is in the hole around a body."""
    if bodies.radius <= 0.0:
        return False
    centre, _ = body_at(seed, bodies, position)
    z, y, x = position[0] - centre[0], position[1] - centre[1], position[2] - centre[2]
    return z * z + y * y + x * x < bodies.hole * bodies.hole


def bodies_near(seed: np.uint64, bodies: BodyGrid, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Centres, float64 (N, 3), and numbers, int64 (N,), of the bodies that may reach into a box."""
    if bodies.radius <= 0.0:
        return np.empty((0, 3)), np.empty(0, np.int64)
    ends = [
        np.clip((np.array(side) - bodies.start) // bodies.pitch, 0, bodies.counts - 1)
        for side in (box.start, np.array(box.stop) - 1)
    ]
    ranges = [np.arange(int(a), int(b) + 1) for a, b in zip(*ends, strict=True)]
    boxes = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    near = [body_at(seed, bodies, tuple(bodies.start + (b + 0.5) * bodies.pitch)) for b in boxes]
    centres = np.array([centre for centre, _ in near])
    return centres, np.array([number for _, number in near], np.int64)


def distances(box: Box, position: np.ndarray) -> np.ndarray:
    """Distance from a position to each voxel of a box in voxels, float64 (z, y, x)."""
    squares = [
        (np.arange(start, stop) - centre) ** 2
        for start, stop, centre in zip(box.start, box.stop, position, strict=True)
    ]
    total: np.ndarray = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    distance: np.ndarray = np.sqrt(total)
    return distance


@kernel
def add_body(
    start: np.ndarray,
    centre: np.ndarray,
    radius: float,
    number: int,
    bottom: float,
    neurite: np.ndarray,
    height: np.ndarray,
    wall: np.ndarray,
    organ: np.ndarray,
) -> None:
    """Write one body into the fields of a `PowerDiagram`, in place.

    Parameters
    ----------
    start : int64 array, (3,)
        Absolute coordinates of the first voxel.
    centre : float64 array, (3,)
        Centre of the body, voxels.
    radius : float
        Radius of the body, voxels.
    number : int
        Number of the body's neurite in `neurite`.
    bottom : float
        Height of a core; cores of other neurites are left unchanged.
    neurite, height, wall, organ : arrays, (z, y, x)
        The fields of the diagram.
    """
    depth, rows, width = neurite.shape
    for z in range(depth):
        for y in range(rows):
            for x in range(width):
                square = (start[0] + z - centre[0]) ** 2 + (start[1] + y - centre[1]) ** 2
                square += (start[2] + x - centre[2]) ** 2
                outside = np.sqrt(square) - radius
                own = neurite[z, y, x] == number
                if outside >= 0.0:
                    if not own:
                        wall[z, y, x] = min(wall[z, y, x], outside)
                elif own or height[z, y, x] > bottom / 2.0:
                    # no membrane where a process begins
                    wall[z, y, x] = max(-outside, wall[z, y, x]) if own else -outside
                    neurite[z, y, x] = number
                    height[z, y, x] = bottom
                    organ[z, y, x] = bottom
