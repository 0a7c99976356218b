"""Synthetic neuropil as three volumes: truth, image, affinities.

Everything is a function of the seed, the bounds and absolute coordinates, so a voxel is the same
whatever block it is asked for in, and a block costs the same in a volume of any size.

1. Axes of neurites are branching trees on a bent lattice (`forest`).
2. A voxel leans to the axis with the least power distance (thick neurites reach further),
   measured from a smoothly displaced place, so that membranes are curved.
3. From each voxel a path of steepest descent over faces leads to the core of an axis, and the
   voxel belongs to the neurite of *that* axis. So a neurite is one face-connected object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from volflow.core.geometry import Box, triple
from volflow.synth.forest import Axes, axes_near
from volflow.synth.noise import smooth
from volflow.synth.painting import joined, painted

WARP = ((2.0, 12), (0.7, 5))  # voxels that membranes wander, and over how many
REACH = 2.2  # of a cell: an axis further away is not seen
CORE = 2.2  # voxels: radius around an axis that is its neurite's, whatever else is near
STEPS = 1.5  # of a cell: longest path from a voxel to a core; a voxel without one is label 0
RIM, RIM_STEPS = 1.5, 2.5  # of a cell: near the faces of the bounds axes are rare, paths longer
BRICK, COARSE = 4, 16  # voxels a side; axes are chosen per brick
AFAR = 64.0  # distance to a membrane where none is near
BOTTOM = -1e9  # height of a core


class Rendered(NamedTuple):
    """The three volumes of a box.

    Attributes
    ----------
    truth : uint64 array, (z, y, x)
        Neurites; 0 is nobody's (rare).
    image : uint8 array, (z, y, x)
        As an electron microscope would show it: dark membranes, mitochondria, noise.
    affinity : uint8 array, (3, z, y, x)
        255 times how sure it is that a voxel belongs with its previous neighbour along z, y, x,
        as a network of middling quality would say; 0 at the start of the bounds.
    """

    truth: np.ndarray
    image: np.ndarray
    affinity: np.ndarray


@dataclass(frozen=True, slots=True)
class Neuropil:
    """A volume of neurites that is computed where it is looked at.

    Parameters
    ----------
    bounds : Box
        The volume. Neurites end at its faces, so other bounds are another volume.
    seed : int
    cell : int
        Mean distance of neighbouring axes, in voxels, at least 8; a neurite is about as wide.
    noise : float
        Standard deviation of the image's noise, in grey values.
    doubt : float
        How wrong the affinities are; at 0 they are only blurred.
    """

    bounds: Box
    seed: int = 0
    cell: int = 14
    noise: float = 14.0
    doubt: float = 1.0

    def __post_init__(self) -> None:
        if self.cell < 8:
            raise ValueError(f"axes of neurites must be 8 voxels apart or more; got {self.cell}")

    def truth(self, box: Box) -> np.ndarray:
        """The neurite of each voxel, uint64 (z, y, x)."""
        return self.render(box).truth

    def image(self, box: Box) -> np.ndarray:
        """Grey values, uint8 (z, y, x)."""
        return self.render(box).image

    def affinity(self, box: Box) -> np.ndarray:
        """Affinities to the previous neighbour, uint8 (3, z, y, x)."""
        return self.render(box).affinity

    def render(self, box: Box) -> Rendered:
        """All three volumes of a box.

        Raises
        ------
        ValueError
            If the box is empty or does not lie in the bounds.
        """
        if not box.size or not self.bounds.covers(box):
            raise ValueError(f"box {box} does not lie in the bounds {self.bounds}")
        seed = np.uint64(self.seed & 0xFFFFFFFFFFFFFFFF)
        steps = int(STEPS * self.cell)
        # affinities also need the voxels before the box
        inner = box.grow((1, 1, 1)).clip(Box(self.bounds.start, box.stop))
        rim = int(RIM * self.cell)
        core = self.bounds.grow(triple(-rim))
        far = steps if core.covers(inner) else int(RIM_STEPS * self.cell)
        outer = inner.grow(triple(far)).clip(self.bounds)
        reach = REACH * self.cell
        axes = axes_near(seed, self.bounds, self.cell, outer, reach + 4.0)
        names, owner = np.unique(axes.owner, return_inverse=True)
        leaning, height, wall, organ = _leaning(seed, axes, owner.astype(np.int32), outer, reach)
        here = np.array([inner.within(outer)[axis].start for axis in range(3)])
        calm = np.array([core.start, core.stop]) - np.array(inner.start)
        limits = np.array([steps, far])
        label = _descended(leaning, height, here, np.array(inner.shape), calm, limits)
        truth = np.concatenate([[0], names]).astype(np.uint64)[label + 1]
        wall, organ = wall[inner.within(outer)], organ[inner.within(outer)]
        image = self._image(seed, inner, truth, wall, organ)
        affinity = self._affinity(seed, inner, truth, wall)
        kept = box.within(inner)
        parts = (truth[kept], image[kept], affinity[(slice(None), *kept)])
        return Rendered(*(np.ascontiguousarray(part) for part in parts))

    def _image(
        self, seed: np.uint64, box: Box, truth: np.ndarray, wall: np.ndarray, organ: np.ndarray
    ) -> np.ndarray:
        """Grey values of a box."""
        fine, rough = smooth(seed, 51, box, 3), smooth(seed, 52, box, 9)
        start = np.array(box.start)
        return painted(seed, start, truth, wall, organ, fine, rough, self.noise)

    def _affinity(
        self, seed: np.uint64, box: Box, truth: np.ndarray, wall: np.ndarray
    ) -> np.ndarray:
        """Affinities of a box whose first planes are not trusted unless the bounds start there."""
        fine, rough = smooth(seed, 61, box, 4), smooth(seed, 62, box, 11)
        start = np.array(box.start)
        return joined(seed, start, truth, wall, fine, rough, self.doubt)


def _leaning(
    seed: np.uint64, axes: Axes, owner: np.ndarray, box: Box, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`_lean` over a box, from places displaced by the warp."""
    moved = np.zeros((3, *box.shape), np.float32)
    for axis in range(3):
        for number, (size, spacing) in enumerate(WARP):
            moved[axis] += np.float32(size) * smooth(seed, 40 + 3 * number + axis, box, spacing)
    return _lean(axes.ends, axes.weights, axes.organs, owner, np.array(box.start), moved, reach)


@numba.njit(cache=True, nogil=True)
def _project(ends: np.ndarray, z: float, y: float, x: float) -> tuple[float, float]:
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
def _chosen(
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
        square, _ = _project(ends[piece], place[0], place[1], place[2])
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
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each voxel: the neurite it leans to, height, distance to the wall, depth in an organ."""
    _, depth, height, width = moved.shape
    leaning = np.full((depth, height, width), -1, np.int32)
    numbers = np.empty((3, depth, height, width), np.float32)
    everything = np.arange(len(owner))
    for cz in range(0, depth, COARSE):
        for cy in range(0, height, COARSE):
            for cx in range(0, width, COARSE):
                place, radius = _ball(start, moved, cz, cy, cx, COARSE)
                near, _ = _chosen(ends, weights, owner, everything, place, radius, reach)
                for bz in range(cz, min(cz + COARSE, depth), BRICK):
                    for by in range(cy, min(cy + COARSE, height), BRICK):
                        for bx in range(cx, min(cx + COARSE, width), BRICK):
                            place, radius = _ball(start, moved, bz, by, bx, BRICK)
                            some, least = _chosen(ends, weights, owner, near, place, radius, reach)
                            _fill(
                                (ends[some], weights[some], organs[some], owner[some], least),
                                start,
                                moved,
                                reach,
                                (bz, by, bx),
                                leaning,
                                numbers,
                            )
    return leaning, numbers[0], numbers[1], numbers[2]


@numba.njit(cache=True, nogil=True)
def _fill(
    some: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    start: np.ndarray,
    moved: np.ndarray,
    reach: float,
    corner: tuple[int, int, int],
    leaning: np.ndarray,
    numbers: np.ndarray,
) -> None:
    """Write what `_nearest` says of each voxel of a brick."""
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
                who, level, wall, organ = _nearest(
                    ends, weights, organs, owner, least, place, reach
                )
                leaning[z, y, x] = who
                numbers[0, z, y, x], numbers[1, z, y, x], numbers[2, z, y, x] = level, wall, organ


@numba.njit(cache=True, nogil=True)
def _nearest(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    least: np.ndarray,
    place: tuple[float, float, float],
    reach: float,
) -> tuple[int, float, float, float]:
    """The neurite with the least power distance from a place; pieces come as `_chosen` has them.

    Returns its number or -1, that distance (or far less, in a core), the distance to the wall
    between it and the next neurite, and the depth inside its mitochondrion.
    """
    best, other = np.inf, np.inf
    best_square, other_square, radius = 0.0, 0.0, 0.0
    who, core_who, core = -1, -1, CORE * CORE
    for piece in range(len(owner)):
        if least[piece] > other:
            break
        square, t = _project(ends[piece], place[0], place[1], place[2])
        if square > reach * reach:
            continue
        value = square - (weights[piece, 0] + t * (weights[piece, 1] - weights[piece, 0]))
        if square < core:
            core, core_who = square, owner[piece]
        if value < best:
            if owner[piece] != who:
                other, other_square = best, best_square
            best, best_square, who = value, square, owner[piece]
            radius = organs[piece, 0] + t * (organs[piece, 1] - organs[piece, 0])
        elif owner[piece] != who and value < other:
            other, other_square = value, square
    if core_who >= 0 and core_who != who:
        return core_who, BOTTOM, 0.0, -AFAR
    apart = np.sqrt(best_square) + np.sqrt(other_square)
    # on the line between both axes, `apart` long, a step changes the difference by 2 apart
    wall = AFAR if other == np.inf else min(AFAR, (other - best) / (2.0 * apart + 1e-6))
    organ = radius - np.sqrt(best_square) if radius > 0.0 else -AFAR
    return who, BOTTOM if core_who >= 0 else best, wall, organ


@numba.njit(cache=True, nogil=True)
def _descended(
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
