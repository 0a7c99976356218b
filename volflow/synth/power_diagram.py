"""Which neurite each voxel leans to, and whose core the way down from it ends in."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from volflow.core.geometry import Box
from volflow.synth.forest import Axes
from volflow.synth.noise import salted, smooth, smooth_at

WARP = ((2.0, 12), (0.7, 5))  # voxels that membranes wander, and over how many
REACH = 2.2  # of a cell: an axis further away is not seen
CORE = 2.2  # voxels: radius around an axis that is its neurite's, whatever else is near
BRICK, COARSE = 4, 16  # voxels a side; axes are chosen per brick
AFAR = 64.0  # distance to a membrane where none is near
BOTTOM = -1e9  # height of a core
SETTLED = 40  # steps until a displaced place is found back


class Leaning(NamedTuple):
    """What the axes say of each voxel of a box.

    Attributes
    ----------
    who : int32 array, (z, y, x)
        Number of the neurite with the least power distance, or -1.
    height : float32 array, (z, y, x)
        That distance; far less in a core.
    wall : float32 array, (z, y, x)
        Voxels to the wall between it and the next neurite.
    organ : float32 array, (z, y, x)
        Voxels inside a mitochondrion; negative outside.
    tag : int32 array, (z, y, x)
        The nearest piece's tag; empty where pieces have none.
    """

    who: np.ndarray
    height: np.ndarray
    wall: np.ndarray
    organ: np.ndarray
    tag: np.ndarray


def leaning_of(
    seed: np.uint64, axes: Axes, owner: np.ndarray, tags: np.ndarray, box: Box, reach: float
) -> Leaning:
    """What axes say of a box, measured from places displaced by the warp.

    Parameters
    ----------
    axes : Axes
        All pieces within `reach` voxels of the displaced places.
    owner : int32 array, (N,)
        The number of the neurite of each piece.
    tags : int32 array, (N,) or (0,)
        A number to be reported for each piece.
    """
    moved = np.zeros((3, *box.shape), np.float32)
    for axis in range(3):
        for number, (size, spacing) in enumerate(WARP):
            moved[axis] += np.float32(size) * smooth(seed, 40 + 3 * number + axis, box, spacing)
    pieces = (axes.ends, axes.weights, axes.organs, owner, tags)
    return Leaning(*_lean(*pieces, np.array(box.start), moved, reach))


def settled(seed: np.uint64, places: np.ndarray) -> np.ndarray:
    """Where displaced places come from, float64 (N, 3): the warp undone.

    Parameters
    ----------
    places : float64 array, (N, 3)
    """
    seeds = np.array(
        [[salted(seed, 40 + 3 * number + axis) for axis in range(3)] for number in range(len(WARP))]
    )
    return _settled(seeds, np.array(WARP, np.float64), np.asarray(places, np.float64))


@numba.njit(cache=True, nogil=True)
def _settled(seeds: np.ndarray, warp: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Each place less the displacement at the result, by damped iteration."""
    out = places.copy()
    shift = np.empty(3)
    for n in range(len(places)):
        for _ in range(SETTLED):
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


@numba.njit(cache=True, nogil=True)
def project(ends: np.ndarray, z: float, y: float, x: float) -> tuple[float, float]:
    """Squared distance of a place from a straight piece, and how far along it is nearest."""
    az, ay, ax = ends[0, 0], ends[0, 1], ends[0, 2]
    bz, by, bx = ends[1, 0] - az, ends[1, 1] - ay, ends[1, 2] - ax
    z, y, x = z - az, y - ay, x - ax
    length = bz * bz + by * by + bx * bx
    t = 0.0
    if length > 0.0:
        t = min(1.0, max(0.0, (z * bz + y * by + x * bx) / length))
    z, y, x = z - t * bz, y - t * by, x - t * bx
    return z * z + y * y + x * x, t


@numba.njit(cache=True, nogil=True)
def chosen(
    ends: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    among: np.ndarray,
    place: tuple[float, float, float],
    radius: float,
    reach: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces that may be the nearest, or the nearest of a second neurite, within a ball.

    Returned with the least power distance that each may have, lowest first.

    If two neurites are known to come below a height everywhere in the ball, whatever stays above
    it everywhere can be neither. Cores count whatever their height.
    """
    count = len(among)
    lower, direct = np.empty(count), np.empty(count)
    first, second, holder = np.inf, np.inf, -1
    for n in range(count):
        piece = among[n]
        square, _ = project(ends[piece], place[0], place[1], place[2])
        distance = np.sqrt(square)
        most = max(weights[piece, 0], weights[piece, 1])
        least = min(weights[piece, 0], weights[piece, 1])
        direct[n] = max(0.0, distance - radius)
        lower[n] = direct[n] * direct[n] - most
        if distance + radius > reach:
            continue
        upper = (distance + radius) ** 2 - least
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
    kept = np.nonzero((lower <= second) & (lower < np.inf))[0]
    kept = kept[np.argsort(lower[kept])]
    return among[kept], lower[kept]


@numba.njit(cache=True, nogil=True)
def _ball(
    start: np.ndarray, moved: np.ndarray, z0: int, y0: int, x0: int, side: int
) -> tuple[tuple[float, float, float], float]:
    """Centre and radius of a ball around the displaced places of a brick."""
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
    radius = 0.5 * np.sqrt((sides * sides).sum()) + 1e-3  # more than rounding can be
    return ((low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0, (low[2] + high[2]) / 2.0), radius


@numba.njit(cache=True, nogil=True)
def _lean(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    tags: np.ndarray,
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of `Leaning`."""
    _, depth, height, width = moved.shape
    leaning = np.full((depth, height, width), -1, np.int32)
    numbers = np.empty((3, depth, height, width), np.float32)
    shown = (depth, height, width) if tags.size else (0, 0, 0)
    tagged = np.zeros(shown, np.int32)
    everything = np.arange(len(owner))
    for cz in range(0, depth, COARSE):
        for cy in range(0, height, COARSE):
            for cx in range(0, width, COARSE):
                place, radius = _ball(start, moved, cz, cy, cx, COARSE)
                near, _ = chosen(ends, weights, owner, everything, place, radius, reach)
                for bz in range(cz, min(cz + COARSE, depth), BRICK):
                    for by in range(cy, min(cy + COARSE, height), BRICK):
                        for bx in range(cx, min(cx + COARSE, width), BRICK):
                            place, radius = _ball(start, moved, bz, by, bx, BRICK)
                            some, least = chosen(ends, weights, owner, near, place, radius, reach)
                            _fill(
                                (ends[some], weights[some], organs[some], owner[some], least),
                                tags[some] if tags.size else tags,
                                start,
                                moved,
                                reach,
                                (bz, by, bx),
                                leaning,
                                numbers,
                                tagged,
                            )
    return leaning, numbers[0], numbers[1], numbers[2], tagged


@numba.njit(cache=True, nogil=True)
def _fill(
    some: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    tags: np.ndarray,
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
    corner: tuple[int, int, int],
    leaning: np.ndarray,
    numbers: np.ndarray,
    tagged: np.ndarray,
) -> None:
    """Write what `nearest` says of each voxel of a brick."""
    ends, weights, organs, owner, least = some
    depth, height, width = leaning.shape
    for z in range(corner[0], min(corner[0] + BRICK, depth)):
        for y in range(corner[1], min(corner[1] + BRICK, height)):
            for x in range(corner[2], min(corner[2] + BRICK, width)):
                place = (
                    start[0] + z + moved[0, z, y, x],
                    start[1] + y + moved[1, z, y, x],
                    start[2] + x + moved[2, z, y, x],
                )
                who, level, wall, organ, piece = nearest(
                    ends, weights, organs, owner, least, place, reach
                )
                leaning[z, y, x] = who
                numbers[0, z, y, x], numbers[1, z, y, x], numbers[2, z, y, x] = level, wall, organ
                if tags.size and piece >= 0:
                    tagged[z, y, x] = tags[piece]


@numba.njit(cache=True, nogil=True)
def nearest(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    least: np.ndarray,
    place: tuple[float, float, float],
    reach: float,
) -> tuple[int, float, float, float, int]:
    """The neurite with the least power distance from a place; pieces come as `chosen` has them.

    Returns its number or -1, that distance (or far less, in a core), the distance to the wall
    between it and the next neurite, the depth inside its mitochondrion, and the piece (-1 in a
    core where another neurite is nearer).
    """
    best, other = np.inf, np.inf
    best_square, other_square, radius = 0.0, 0.0, 0.0
    who, core_who, core, nearest_piece = -1, -1, CORE * CORE, -1
    for piece in range(len(owner)):
        if least[piece] > other:
            break
        square, t = project(ends[piece], place[0], place[1], place[2])
        if square > reach * reach:
            continue
        value = square - (weights[piece, 0] + t * (weights[piece, 1] - weights[piece, 0]))
        if square < core:
            core, core_who = square, owner[piece]
        if value < best:
            if owner[piece] != who:
                other, other_square = best, best_square
            best, best_square, who, nearest_piece = value, square, owner[piece], piece
            radius = organs[piece, 0] + t * (organs[piece, 1] - organs[piece, 0])
        elif owner[piece] != who and value < other:
            other, other_square = value, square
    if core_who >= 0 and core_who != who:
        return core_who, BOTTOM, 0.0, -AFAR, -1
    apart = np.sqrt(best_square) + np.sqrt(other_square)
    # on the line between both axes, `apart` long, a step changes the difference by 2 apart
    wall = AFAR if other == np.inf else min(AFAR, (other - best) / (2.0 * apart + 1e-6))
    organ = radius - np.sqrt(best_square) if radius > 0.0 else -AFAR
    return who, BOTTOM if core_who >= 0 else best, wall, organ, nearest_piece


@numba.njit(cache=True, nogil=True)
def descended(
    leaning: np.ndarray,
    height: np.ndarray,
    start: np.ndarray,
    shape: np.ndarray,
    calm: np.ndarray,
    limits: np.ndarray,
) -> np.ndarray:
    """The neurite at whose core the way down from each voxel ends, or -1.

    The way goes to the lowest face neighbour that leans to the same neurite; where none of them
    is lower, to the lowest of all. It takes at most `limits[0]` steps from a voxel between
    `calm[0]` and `calm[1]`, and `limits[1]` from another, so that no more is looked at.
    """
    down = np.empty(leaning.shape, np.int8)
    depth, rows, width = leaning.shape
    for z in range(depth):
        for y in range(rows):
            for x in range(width):
                own, any_way = -1, -1
                own_height = any_height = height[z, y, x]
                for way in range(6):
                    sign = 1 if way % 2 else -1
                    u = z + (sign if way // 2 == 0 else 0)
                    v = y + (sign if way // 2 == 1 else 0)
                    w = x + (sign if way // 2 == 2 else 0)
                    if u < 0 or v < 0 or w < 0 or u >= depth or v >= rows or w >= width:
                        continue
                    if height[u, v, w] < any_height:
                        any_way, any_height = way, height[u, v, w]
                    if leaning[u, v, w] == leaning[z, y, x] and height[u, v, w] < own_height:
                        own, own_height = way, height[u, v, w]
                down[z, y, x] = own if own >= 0 else any_way
    out = np.full((shape[0], shape[1], shape[2]), -1, np.int32)
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                u, v, w = z + start[0], y + start[1], x + start[2]
                inside = calm[0, 0] <= z < calm[1, 0] and calm[0, 1] <= y < calm[1, 1]
                inside = inside and calm[0, 2] <= x < calm[1, 2]
                for _ in range(limits[0] if inside else limits[1]):
                    if height[u, v, w] < BOTTOM / 2.0 or down[u, v, w] < 0:
                        break
                    way = down[u, v, w]
                    sign = 1 if way % 2 else -1
                    u += sign if way // 2 == 0 else 0
                    v += sign if way // 2 == 1 else 0
                    w += sign if way // 2 == 2 else 0
                if height[u, v, w] < BOTTOM / 2.0:
                    out[z, y, x] = leaning[u, v, w]
    return out
