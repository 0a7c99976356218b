"""Synapses: a cleft between two neurites, vesicles on one side and a density on the other.

Candidates are placed on walls near the knots of a jittered lattice, from the axes alone. The voxels
of each are then determined from the truth:

    pre pre pre | post post
     2   2   1  |  1    3         CLEFT = 1, PRE = 2, POST = 3
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel
from volflow.synth.forest import Axes, axes_near
from volflow.synth.noise import hashed, salted, uniform
from volflow.synth.power_diagram import REACH, project, unwarped

CLEFT, PRE, POST = 1, 2, 3
SPACING = 2.0  # of a cell, between knots of the lattice of candidates
OFTEN = 0.8  # fraction of the knots that have a candidate
DISC, CLOUD = 0.42, 0.6  # of a cell: radius of a cleft, and of the vesicles around its centre
DENSITY = 3.0  # voxels: depth of the postsynaptic density
STEPS = 5  # iterations that move a candidate to the wall
SMALLEST = 8  # fewest voxels of a cleft
SALT = 90


class Candidates(NamedTuple):
    """Candidates for synapses.

    Attributes
    ----------
    names : int64 array, (N,)
        From 1, ascending.
    centres : float64 array, (N, 3)
        z, y, x in voxels.
    pre, post : int64 arrays, (N,)
        Names of the presynaptic and the postsynaptic neurite.
    """

    names: np.ndarray
    centres: np.ndarray
    pre: np.ndarray
    post: np.ndarray


def cloud_radius(cell: int) -> int:
    """Distance in voxels from the centre of a synapse within which all its voxels are."""
    return math.ceil(CLOUD * cell) + 1


def candidates_near(seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box) -> Candidates:
    """The candidates with a voxel in a box, without those too close to one with a smaller name.

    Too close means within twice `cloud_radius`.
    """
    pitch = SPACING * cell
    seen = box.grow((3 * cloud_radius(cell),) * 3)
    first = np.floor(np.array(bounds.start) / pitch).astype(np.int64)
    sides = np.floor(np.array(bounds.stop) / pitch).astype(np.int64) - first + 1
    # A candidate is at most a cell away from its knot, a knot at most a pitch from its corner.
    low = np.floor((np.array(seen.start) - cell) / pitch).astype(np.int64) - 1
    high = np.floor((np.array(seen.stop) + cell) / pitch).astype(np.int64) + 1
    low, high = np.maximum(low, first), np.minimum(high, first + sides - 1)
    grid = np.stack(np.meshgrid(*map(np.arange, low, high + 1), indexing="ij"), -1).reshape(-1, 3)
    own = salted(seed, SALT)
    knots, names = _knots(own, grid, first, sides, pitch)
    reach = REACH * cell
    axes = axes_near(seed, bounds, cell, nucleus, seen.grow((2 * cell,) * 3), reach + 4.0)
    places, first_owner, second_owner = _on_walls(axes, knots, reach, float(cell))
    centres = unwarped(seed, places)
    valid = (first_owner > 0) & (names > 0)
    valid &= ((centres >= bounds.start) & (centres <= np.array(bounds.stop) - 1)).all(axis=1)
    names, centres = names[valid], centres[valid]
    pair = np.sort(np.stack([first_owner[valid], second_owner[valid]]), axis=0)
    swapped = np.array([int(hashed(own, -7, 0, name)) & 1 for name in names], np.int64)
    pre, post = np.where(swapped, pair[1], pair[0]), np.where(swapped, pair[0], pair[1])
    limits = np.array(box.start) - cloud_radius(cell), np.array(box.stop) - 1 + cloud_radius(cell)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) > 2 * cloud_radius(cell)
    selected = (apart | (names[None] >= names[:, None])).all(axis=1)
    selected &= ((centres >= limits[0]) & (centres <= limits[1])).all(axis=1)
    return Candidates(names[selected], centres[selected], pre[selected], post[selected])


@kernel
def _knots(
    seed: np.uint64, grid: np.ndarray, first: np.ndarray, sides: np.ndarray, pitch: float
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the jittered knots, and their names; 0 where there is no candidate."""
    places = np.empty((len(grid), 3))
    names = np.zeros(len(grid), np.int64)
    for n in range(len(grid)):
        z, y, x = grid[n]
        for axis in range(3):
            part = uniform(seed + np.uint64(axis + 1), z, y, x)
            places[n, axis] = (grid[n, axis] + part) * pitch
        if uniform(seed, z, y, x) < OFTEN:
            index = (z - first[0]) * sides[1] + y - first[1]
            names[n] = index * sides[2] + x - first[2] + 1
    return places, names


def _on_walls(
    axes: Axes, places: np.ndarray, reach: float, far: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions moved onto the wall between the two nearest neurites, and the two neurites."""
    out = places.copy()
    pairs = _walk_to_walls(axes.ends, axes.weights, axes.owner, out, reach, far)
    return out, pairs[:, 0], pairs[:, 1]


@kernel
def _walk_to_walls(
    ends: np.ndarray,
    weights: np.ndarray,
    owner: np.ndarray,
    places: np.ndarray,
    reach: float,
    far: float,
) -> np.ndarray:
    """Move places, in place, step by step along the line between the two nearest axes.

    Returns
    -------
    int64 array, (N, 2)
        The two neurites; 0 and 0 if there are not two, or a place has moved by more than `far`
        voxels.
    """
    pairs = np.zeros((len(places), 2), np.int64)
    start = np.empty(3)
    for n in range(len(places)):
        start[:] = places[n]
        # A piece is shorter than a cell.
        offset = np.abs(ends[:, 0] - start)
        limit = reach + 2.0 * far
        around = (offset[:, 0] < limit) & (offset[:, 1] < limit) & (offset[:, 2] < limit)
        for _ in range(STEPS):
            best, other, one, two = np.inf, np.inf, -1, -1
            for piece in range(len(owner)):
                if not around[piece]:
                    continue
                square, t = project(ends[piece], places[n, 0], places[n, 1], places[n, 2])
                if square > reach * reach:
                    continue
                value = square - (weights[piece, 0] + t * (weights[piece, 1] - weights[piece, 0]))
                if value < best:
                    if one < 0 or owner[piece] != owner[one]:
                        other, two = best, one
                    best, one = value, piece
                elif owner[piece] != owner[one] and value < other:
                    other, two = value, piece
            if two < 0:
                pairs[n] = 0
                break
            pairs[n, 0], pairs[n, 1] = owner[one], owner[two]
            here, there = np.empty(3), np.empty(3)
            for target, piece in ((here, one), (there, two)):
                _, t = project(ends[piece], places[n, 0], places[n, 1], places[n, 2])
                target[:] = ends[piece, 0] + t * (ends[piece, 1] - ends[piece, 0])
            line = there - here
            # Along the line, the difference of the power distances falls by 2 |line| per voxel.
            places[n] += line * ((other - best) / (2.0 * (line * line).sum() + 1e-6))
            if ((places[n] - start) ** 2).sum() > far * far:
                pairs[n] = 0
                break
    return pairs


def place_synapses(
    candidates: Candidates,
    truth: np.ndarray,
    wall: np.ndarray,
    start: tuple[int, int, int],
    cell: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The voxels of synapses in an array of labels.

    Parameters
    ----------
    candidates : Candidates
        Those whose cloud reaches the box of interest. The array contains their clouds and a margin
        of one voxel, or ends at the bounds.
    truth : uint64 array, (z, y, x)
        Labels of neurites.
    wall : float32 array, (z, y, x)
        Distance to the nearest membrane in voxels.
    start : Triple
        Absolute coordinates of the first voxel.
    cell : int
        Mean width of a neurite in voxels.

    Returns
    -------
    uint64 array, (z, y, x)
        Names of synapses.
    uint8 array, (z, y, x)
        The part: CLEFT, PRE or POST.
    bool array, (N,)
        Whether each candidate has a cleft, and so is a synapse.
    """
    names = np.zeros(truth.shape, np.uint64)
    parts = np.zeros(truth.shape, np.uint8)
    has_cleft = np.zeros(len(candidates.names), np.bool_)
    centres = candidates.centres - np.array(start)
    radii = (DISC * cell, CLOUD * cell)
    columns = (candidates.names, centres, candidates.pre, candidates.post)
    _write_synapses(*columns, truth, wall, radii, names, parts, has_cleft)
    return names, parts, has_cleft


@kernel
def _touches(truth: np.ndarray, z: int, y: int, x: int, other: int) -> bool:
    """Whether a face neighbour of a voxel has this label."""
    touching = False
    for way in range(6):
        sign = 1 if way % 2 else -1
        u = z + (sign if way // 2 == 0 else 0)
        v = y + (sign if way // 2 == 1 else 0)
        w = x + (sign if way // 2 == 2 else 0)
        if 0 <= u < truth.shape[0] and 0 <= v < truth.shape[1] and 0 <= w < truth.shape[2]:
            touching |= np.int64(truth[u, v, w]) == other
    return touching


@kernel
def _write_synapses(
    ids: np.ndarray,
    centres: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    truth: np.ndarray,
    wall: np.ndarray,
    radii: tuple[float, float],
    names: np.ndarray,
    parts: np.ndarray,
    has_cleft: np.ndarray,
) -> None:
    """Write names and parts of each candidate that has a cleft, and whether it has one."""
    margin = int(radii[1]) + 1
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for n in range(len(ids)):
        for axis in range(3):
            middle = int(np.floor(centres[n, axis]))
            low[axis] = max(0, middle - margin)
            high[axis] = max(low[axis], min(truth.shape[axis], middle + margin + 2))
        local = np.zeros((high[0] - low[0], high[1] - low[1], high[2] - low[2]), np.uint8)
        count = 0
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    label = np.int64(truth[z, y, x])
                    if label != pre[n] and label != post[n]:
                        continue
                    square = (z - centres[n, 0]) ** 2 + (y - centres[n, 1]) ** 2
                    square += (x - centres[n, 2]) ** 2
                    if square > radii[1] ** 2:
                        continue
                    part = PRE if label == pre[n] else 0
                    if square <= radii[0] ** 2:
                        other = post[n] if label == pre[n] else pre[n]
                        if _touches(truth, z, y, x, other):
                            part = CLEFT
                            count += 1
                        elif label == post[n] and wall[z, y, x] < DENSITY:
                            part = POST
                    local[z - low[0], y - low[1], x - low[2]] = part
        has_cleft[n] = count >= SMALLEST
        if not has_cleft[n]:
            continue
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    if local[z - low[0], y - low[1], x - low[2]]:
                        names[z, y, x] = ids[n]
                        parts[z, y, x] = local[z - low[0], y - low[1], x - low[2]]
