"""Power diagram of the axes of neurites, and the steepest descent from voxels to cores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel
from volflow.synth.forest import Axes
from volflow.synth.noise import salted, smooth, smooth_at

WARP = ((2.0, 12), (0.7, 5))  # displacement of membranes and distance between its knots, voxels
REACH = 2.2  # of a cell: axes further away are ignored
CORE = 2.2  # voxels: radius around an axis that always belongs to its neurite
BRICK, COARSE = 4, 16  # voxels a side; candidate axes are selected per brick
AFAR = 64.0  # distance to a membrane where none is near
BOTTOM = -1e9  # height of a core
UNWARP_STEPS = 40  # iterations until the warp of a position is undone


class PowerDiagram(NamedTuple):
    """The nearest neurite of each voxel of a box, by power distance.

    Attributes
    ----------
    neurite : int32 array, (z, y, x)
        Number of the neurite with the smallest power distance, or -1.
    height : float32 array, (z, y, x)
        That distance; `BOTTOM` in a core.
    wall : float32 array, (z, y, x)
        Distance in voxels to the wall between it and the next neurite.
    organ : float32 array, (z, y, x)
        Depth inside a mitochondrion in voxels; negative outside.
    tag : int32 array, (z, y, x)
        Tag of the nearest piece, 0 where there is none; empty if no tags were asked for.
    """

    neurite: np.ndarray
    height: np.ndarray
    wall: np.ndarray
    organ: np.ndarray
    tag: np.ndarray


def power_diagram(
    seed: np.uint64, axes: Axes, owner: np.ndarray, tags: np.ndarray | None, box: Box, reach: float
) -> PowerDiagram:
    """The power diagram of axes over a box, measured from positions displaced by the warp.

    Parameters
    ----------
    seed : uint64
        Seed of the warp.
    axes : Axes
        All pieces within `reach` voxels of the displaced positions.
    owner : int32 array, (N,)
        The number of the neurite of each piece.
    tags : int32 array, (N,), or None
        A number to be reported for each piece; N may be 0.
    box : Box
        In cubic voxels.
    reach : float
        Distance in voxels beyond which axes are ignored.
    """
    moved = np.zeros((3, *box.shape), np.float32)
    for axis in range(3):
        for number, (size, spacing) in enumerate(WARP):
            moved[axis] += np.float32(size) * smooth(seed, 40 + 3 * number + axis, box, spacing)
    tagged = np.zeros((0, 0, 0) if tags is None else box.shape, np.int32)
    tags = np.empty(0, np.int32) if tags is None else tags
    pieces = (axes.ends, axes.weights, axes.organs, owner, tags)
    fields = _assign(*pieces, np.array(box.start), moved, reach, tagged)
    return PowerDiagram(*fields, tagged)


def unwarped(seed: np.uint64, places: np.ndarray) -> np.ndarray:
    """Positions before the displacement by the warp, float64 (N, 3).

    Parameters
    ----------
    seed : uint64
        Seed of the warp.
    places : float64 array, (N, 3)
        Displaced positions z, y, x in voxels.
    """
    seeds = np.array(
        [[salted(seed, 40 + 3 * number + axis) for axis in range(3)] for number in range(len(WARP))]
    )
    return _unwarped(seeds, np.array(WARP, np.float64), np.asarray(places, np.float64))


@kernel
def _unwarped(seeds: np.ndarray, warp: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Solve position + displacement(position) = place for each place, by damped iteration."""
    out = places.copy()
    shift = np.empty(3)
    for n in range(len(places)):
        for _ in range(UNWARP_STEPS):
            z, y, x = out[n]
            shift[:] = 0.0
            for number in range(len(warp)):
                size, spacing = warp[number]
                for axis in range(3):
                    shift[axis] += size * smooth_at(
                        seeds[number, axis], z / spacing, y / spacing, x / spacing
                    )
            out[n] = 0.4 * out[n] + 0.6 * (places[n] - shift)
    return out


@kernel
def project(ends: np.ndarray, z: float, y: float, x: float) -> tuple[float, float]:
    """Squared distance from a position to a piece, and the nearest point's fraction along it."""
    az, ay, ax = ends[0, 0], ends[0, 1], ends[0, 2]
    bz, by, bx = ends[1, 0] - az, ends[1, 1] - ay, ends[1, 2] - ax
    z, y, x = z - az, y - ay, x - ax
    length = bz * bz + by * by + bx * bx
    t = 0.0
    if length > 0.0:
        t = min(1.0, max(0.0, (z * bz + y * by + x * bx) / length))
    z, y, x = z - t * bz, y - t * by, x - t * bx
    return z * z + y * y + x * x, t


@kernel
def candidate_pieces(
    ends: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    among: np.ndarray,
    centre: tuple[float, float, float],
    radius: float,
    reach: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces that may be the nearest, or the nearest of a second neurite, within a ball.

    If two neurites are below some height everywhere in the ball, pieces that are above it
    everywhere can be neither. Pieces whose core may reach the ball are always candidates.

    Returns
    -------
    pieces : int array, (M,)
        A selection of `among`, by ascending lower bound.
    bounds : float64 array, (M,)
        Lower bound of each piece's power distance within the ball.
    """
    count = len(among)
    lower, direct = np.empty(count), np.empty(count)
    first, second, holder = np.inf, np.inf, -1
    for n in range(count):
        piece = among[n]
        square, _ = project(ends[piece], centre[0], centre[1], centre[2])
        distance = np.sqrt(square)
        heaviest = max(weights[piece, 0], weights[piece, 1])
        lightest = min(weights[piece, 0], weights[piece, 1])
        direct[n] = max(0.0, distance - radius)
        lower[n] = direct[n] * direct[n] - heaviest
        if distance + radius > reach:
            continue
        upper = (distance + radius) ** 2 - lightest
        if owner[piece] == holder:
            first = min(first, upper)
        elif upper < first:
            first, second, holder = upper, first, owner[piece]
        else:
            second = min(second, upper)
    for n in range(count):
        if direct[n] <= CORE:
            lower[n] = -np.inf
        elif direct[n] > reach:
            lower[n] = np.inf
    selected = np.nonzero((lower <= second) & (lower < np.inf))[0]
    selected = selected[np.argsort(lower[selected])]
    return among[selected], lower[selected]


@kernel
def _bounding_ball(
    start: np.ndarray, moved: np.ndarray, z0: int, y0: int, x0: int, side: int
) -> tuple[tuple[float, float, float], float]:
    """Centre and radius of a ball around the displaced positions of a brick."""
    _, depth, height, width = moved.shape
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for z in range(z0, min(z0 + side, depth)):
        for y in range(y0, min(y0 + side, height)):
            for x in range(x0, min(x0 + side, width)):
                for axis in range(3):
                    value = start[axis] + (z, y, x)[axis] + moved[axis, z, y, x]
                    low[axis] = min(low[axis], value)
                    high[axis] = max(high[axis], value)
    sides = high - low
    radius = 0.5 * np.sqrt((sides * sides).sum()) + 1e-3  # more than the error of rounding
    return ((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0, (low[2] + high[2]) / 2.0), radius


@kernel
def _assign(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    tags: np.ndarray,
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
    tagged: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The columns of `PowerDiagram` without the tags, which are written into `tagged`."""
    _, depth, height, width = moved.shape
    neurite = np.full((depth, height, width), -1, np.int32)
    numbers = np.empty((3, depth, height, width), np.float32)
    everything = np.arange(len(owner))
    for cz in range(0, depth, COARSE):
        for cy in range(0, height, COARSE):
            for cx in range(0, width, COARSE):
                centre, radius = _bounding_ball(start, moved, cz, cy, cx, COARSE)
                near, _ = candidate_pieces(ends, weights, owner, everything, centre, radius, reach)
                for bz in range(cz, min(cz + COARSE, depth), BRICK):
                    for by in range(cy, min(cy + COARSE, height), BRICK):
                        for bx in range(cx, min(cx + COARSE, width), BRICK):
                            centre, radius = _bounding_ball(start, moved, bz, by, bx, BRICK)
                            candidates, least = candidate_pieces(
                                ends, weights, owner, near, centre, radius, reach
                            )
                            _fill_brick(
                                (
                                    ends[candidates],
                                    weights[candidates],
                                    organs[candidates],
                                    owner[candidates],
                                    least,
                                ),
                                tags[candidates] if tags.size else tags,
                                start,
                                moved,
                                reach,
                                (bz, by, bx),
                                neurite,
                                numbers,
                                tagged,
                            )
    return neurite, numbers[0], numbers[1], numbers[2]


@kernel
def _fill_brick(
    pieces: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    tags: np.ndarray,
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
    corner: tuple[int, int, int],
    neurite: np.ndarray,
    numbers: np.ndarray,
    tagged: np.ndarray,
) -> None:
    """Write the result of `nearest_neurite` for each voxel of a brick."""
    ends, weights, organs, owner, least = pieces
    depth, rows, width = neurite.shape
    for z in range(corner[0], min(corner[0] + BRICK, depth)):
        for y in range(corner[1], min(corner[1] + BRICK, rows)):
            for x in range(corner[2], min(corner[2] + BRICK, width)):
                place = (
                    start[0] + z + moved[0, z, y, x],
                    start[1] + y + moved[1, z, y, x],
                    start[2] + x + moved[2, z, y, x],
                )
                number, height, wall, organ, piece = nearest_neurite(
                    ends, weights, organs, owner, least, place, reach
                )
                neurite[z, y, x] = number
                numbers[0, z, y, x], numbers[1, z, y, x], numbers[2, z, y, x] = height, wall, organ
                if tags.size and piece >= 0:
                    tagged[z, y, x] = tags[piece]


@kernel
def nearest_neurite(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    least: np.ndarray,
    place: tuple[float, float, float],
    reach: float,
) -> tuple[int, float, float, float, int]:
    """The neurite with the smallest power distance from a position.

    Parameters
    ----------
    ends, weights, organs, owner, least
        Candidate pieces, with the bounds and in the order of `candidate_pieces`.
    place : three floats
        The position.
    reach : float
        Distance in voxels beyond which pieces are ignored.

    Returns
    -------
    int
        The neurite's number or -1.
    float
        The power distance; `BOTTOM` in a core.
    float
        Distance to the wall between it and the next neurite in voxels.
    float
        Depth inside its mitochondrion in voxels.
    int
        The piece; -1 in a core where another neurite is nearer.
    """
    best, other = np.inf, np.inf
    best_square, other_square, radius = 0.0, 0.0, 0.0
    neurite, core_neurite, core, nearest_piece = -1, -1, CORE * CORE, -1
    for piece in range(len(owner)):
        if least[piece] > other:
            break
        square, t = project(ends[piece], place[0], place[1], place[2])
        if square > reach * reach:
            continue
        value = square - (weights[piece, 0] + t * (weights[piece, 1] - weights[piece, 0]))
        if square < core:
            core, core_neurite = square, owner[piece]
        if value < best:
            if owner[piece] != neurite:
                other, other_square = best, best_square
            best, best_square, neurite, nearest_piece = value, square, owner[piece], piece
            radius = organs[piece, 0] + t * (organs[piece, 1] - organs[piece, 0])
        elif owner[piece] != neurite and value < other:
            other, other_square = value, square
    if core_neurite >= 0 and core_neurite != neurite:
        return core_neurite, BOTTOM, 0.0, -AFAR, -1
    apart = np.sqrt(best_square) + np.sqrt(other_square)
    # Along the line between both axes, of length `apart`, a step changes the difference by 2 apart.
    wall = AFAR if other == np.inf else min(AFAR, (other - best) / (2.0 * apart + 1e-6))
    organ = radius - np.sqrt(best_square) if radius > 0.0 else -AFAR
    return neurite, BOTTOM if core_neurite >= 0 else best, wall, organ, nearest_piece


@kernel
def descend_to_cores(
    neurite: np.ndarray,
    height: np.ndarray,
    start: np.ndarray,
    shape: np.ndarray,
    interior: np.ndarray,
    limits: np.ndarray,
) -> np.ndarray:
    """The neurite at whose core the steepest descent from each voxel ends, or -1.

    Each step leads to the lowest face neighbour with the same nearest neurite; if none of these is
    lower, to the lowest of all. The number of steps is limited, so that a voxel depends on a
    bounded neighbourhood.

    Parameters
    ----------
    neurite, height
        Fields of a `PowerDiagram`.
    start, shape : int64 arrays, (3,)
        The box within these fields for which the result is returned.
    interior : int64 array, (2, 3)
        First and last (exclusive) voxel of the interior, relative to `start`.
    limits : int64 array, (2,)
        Largest number of steps from a voxel in the interior, and from any other voxel.
    """
    down = np.empty(neurite.shape, np.int8)
    depth, rows, width = neurite.shape
    for z in range(depth):
        for y in range(rows):
            for x in range(width):
                own_direction, any_direction = -1, -1
                own_height = any_height = height[z, y, x]
                for direction in range(6):
                    sign = 1 if direction % 2 else -1
                    u = z + (sign if direction // 2 == 0 else 0)
                    v = y + (sign if direction // 2 == 1 else 0)
                    w = x + (sign if direction // 2 == 2 else 0)
                    if u < 0 or v < 0 or w < 0 or u >= depth or v >= rows or w >= width:
                        continue
                    if height[u, v, w] < any_height:
                        any_direction, any_height = direction, height[u, v, w]
                    if neurite[u, v, w] == neurite[z, y, x] and height[u, v, w] < own_height:
                        own_direction, own_height = direction, height[u, v, w]
                down[z, y, x] = own_direction if own_direction >= 0 else any_direction
    out = np.full((shape[0], shape[1], shape[2]), -1, np.int32)
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                u, v, w = z + start[0], y + start[1], x + start[2]
                inside = (
                    interior[0, 0] <= z < interior[1, 0] and interior[0, 1] <= y < interior[1, 1]
                )
                inside = inside and interior[0, 2] <= x < interior[1, 2]
                for _ in range(limits[0] if inside else limits[1]):
                    if height[u, v, w] < BOTTOM / 2.0 or down[u, v, w] < 0:
                        break
                    direction = down[u, v, w]
                    sign = 1 if direction % 2 else -1
                    u += sign if direction // 2 == 0 else 0
                    v += sign if direction // 2 == 1 else 0
                    w += sign if direction // 2 == 2 else 0
                if height[u, v, w] < BOTTOM / 2.0:
                    out[z, y, x] = neurite[u, v, w]
    return out
