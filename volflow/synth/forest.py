"""Neurites as trees on a warped lattice: the tree of each site, and the axes of the trees.

Sites of a cubic lattice, by whether their indices i, j, k are even (0) or odd (1):

    j even, k odd    a rod along i          i even, j odd    a rod along k
    i odd, k even    a rod along j          000 and 111      between the rods

Every site has at most one parent, so following parents ends in a root, after which the tree is
named. Only neighbouring sites are evaluated, in a volume of any size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.kernels import kernel
from volflow.synth.bodies import BodyGrid, body_at, body_grid, in_hole
from volflow.synth.noise import hashed, smooth_at, uniform

TURN = 0.05  # probability that a site leaves its rod and joins a neighbour: every 20 sites
PROCESSES = 0.3  # fraction of the rods ending at a body that are its processes
END = 0.004  # probability that a neurite ends at a site: 250 sites per neurite in a large volume
JITTER = 0.22  # of a cell, to each side
BEND, BEND_CELLS = 0.9, 5.0  # the lattice is warped by up to 0.9 cells, over 5 cells
MARGIN = 4.0  # voxels between sites and the faces of the bounds
PARTS = 3  # straight pieces per rounded corner
SLOTS = 2 * PARTS  # names of nodes reserved for each site
DEEP = 6.0  # voxels by which the axis of a process extends into a body
THICK = 0.32  # of a cell squared: weight of the thickest rods in the power distance
MITOCHONDRION = 0.34  # of a cell: radius

# A rotation with no entry near 0 or 1, so that no rod is parallel to a section.
TURNED = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3.0


class Axes(NamedTuple):
    """Straight pieces of the axes of neurites.

    Attributes
    ----------
    ends : float64 array, (N, 2, 3)
        z, y, x of both ends, voxels.
    weights : float64 array, (N, 2)
        Weight in the power distance at both ends, voxels squared.
    organs : float64 array, (N, 2)
        Radius of the mitochondrion at both ends, voxels; 0: none.
    owner : int64 array, (N,)
        Name of the neurite, from 1.
    site : int64 array, (N,)
        Name of the site whose corner contains the piece.
    nodes : int64 array, (N, 2)
        Names of both ends; adjoining pieces share one.
    """

    ends: np.ndarray
    weights: np.ndarray
    organs: np.ndarray
    owner: np.ndarray
    site: np.ndarray
    nodes: np.ndarray


class Lattice(NamedTuple):
    """The lattice of sites in given bounds.

    Attributes
    ----------
    cell : float
        Voxels between neighbouring sites.
    bodies : BodyGrid
        The region for sites, and the holes around bodies.
    origin, sides : int64 arrays, (3,)
        First cell of the bounds, and cells along each axis of the lattice.
    """

    cell: float
    bodies: BodyGrid
    origin: np.ndarray
    sides: np.ndarray


def lattice_of(bounds: Box, cell: int, nucleus: int) -> Lattice:
    """The lattice in bounds."""
    bodies = body_grid(bounds, cell, nucleus, MARGIN)
    origin, last = _cells(bounds, cell, 0.0)
    return Lattice(float(cell), bodies, origin, last - origin)


def axes_near(
    seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box, reach: float
) -> Axes:
    """The pieces of axes within `reach` voxels of a box, in the order of the lattice."""
    # The site at the start of a process is further away.
    slack = (4.0 if nucleus else 2.0) * cell
    low, high = _cells(box, cell, reach + slack + cell)
    lattice = lattice_of(bounds, cell, nucleus)
    near = np.stack([np.array(box.start) - reach, np.array(box.stop) + reach])
    return Axes(*_grow_axes(seed, *lattice, low, high, near, slack))


def _cells(box: Box, cell: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Half-open range of the lattice cells whose sites may be within `reach` voxels of a box."""
    corners = np.array(
        [[(box.start, box.stop)[(n >> axis) & 1][axis] for axis in range(3)] for n in range(8)]
    )
    turned = (corners / cell) @ TURNED  # the inverse of a rotation is its transpose
    slack = reach * math.sqrt(3) / cell + JITTER + BEND * math.sqrt(3) + 1.0
    low = np.floor(turned.min(axis=0) - slack).astype(np.int64)
    return low, np.ceil(turned.max(axis=0) + slack).astype(np.int64)


@kernel
def _site(seed: np.uint64, cell: float, i: int, j: int, k: int) -> tuple[float, float, float]:
    """Position of a site in voxels."""
    a = i + 0.5 + JITTER * (2.0 * uniform(seed + np.uint64(1), i, j, k) - 1.0)
    b = j + 0.5 + JITTER * (2.0 * uniform(seed + np.uint64(2), i, j, k) - 1.0)
    c = k + 0.5 + JITTER * (2.0 * uniform(seed + np.uint64(3), i, j, k) - 1.0)
    u, v, w = a / BEND_CELLS, b / BEND_CELLS, c / BEND_CELLS
    a += BEND * smooth_at(seed + np.uint64(4), u, v, w)
    b += BEND * smooth_at(seed + np.uint64(5), u, v, w)
    c += BEND * smooth_at(seed + np.uint64(6), u, v, w)
    z = cell * (TURNED[0, 0] * a + TURNED[0, 1] * b + TURNED[0, 2] * c)
    y = cell * (TURNED[1, 0] * a + TURNED[1, 1] * b + TURNED[1, 2] * c)
    x = cell * (TURNED[2, 0] * a + TURNED[2, 1] * b + TURNED[2, 2] * c)
    return z, y, x


@kernel
def _site_exists(seed: np.uint64, cell: float, bodies: BodyGrid, i: int, j: int, k: int) -> bool:
    """Whether a site is within the bounds and outside all holes around bodies."""
    position = _site(seed, cell, i, j, k)
    inside = True
    for axis in range(3):
        inside &= bodies.low[axis] <= position[axis] <= bodies.high[axis]
    return inside and not in_hole(seed, bodies, position)


@kernel
def _rod(i: int, j: int, k: int) -> int:
    """The axis of the rod through a site, or -1 between rods."""
    if j % 2 == 0 and k % 2 == 1:
        return 0
    if i % 2 == 1 and k % 2 == 0:
        return 1
    if i % 2 == 0 and j % 2 == 1:
        return 2
    return -1


@kernel
def _rod_hash(seed: np.uint64, rod: int, i: int, j: int, k: int) -> np.uint64:
    """Hash bits that all sites of a rod share."""
    if rod == 0:
        return hashed(seed + np.uint64(10), -1, j, k)
    if rod == 1:
        return hashed(seed + np.uint64(11), i, -1, k)
    return hashed(seed + np.uint64(12), i, j, -1)


@kernel
def _step(i: int, j: int, k: int, direction: int | np.int64) -> tuple[int, int, int]:
    """The neighbour in one of six directions: axis = direction // 2, forward if odd."""
    sign = 1 if direction % 2 else -1
    axis = direction // 2
    return (
        i + (sign if axis == 0 else 0),
        j + (sign if axis == 1 else 0),
        k + (sign if axis == 2 else 0),
    )


@kernel
def _parent(
    seed: np.uint64, cell: float, bodies: BodyGrid, i: int, j: int, k: int
) -> tuple[bool, int, int, int]:
    """The parent of an existing site: whether it has one, and the parent's indices."""
    rod = _rod(i, j, k)
    chance = uniform(seed + np.uint64(20), i, j, k)
    if rod >= 0:
        if chance < END:
            return False, i, j, k
        if chance > END + TURN:
            forward = np.int64(_rod_hash(seed, rod, i, j, k) & np.uint64(1))
            a, b, c = _step(i, j, k, 2 * rod + forward)
            # A rod that leaves the bounds ends there.
            return _site_exists(seed, cell, bodies, a, b, c), a, b, c
    first = np.int64(hashed(seed + np.uint64(21), i, j, k) % np.uint64(6))
    for turn in range(6):
        direction = (first + turn) % 6
        if direction // 2 != rod:
            a, b, c = _step(i, j, k, direction)
            if _site_exists(seed, cell, bodies, a, b, c):
                return True, a, b, c
    return False, i, j, k


@kernel
def _name(origin: np.ndarray, sides: np.ndarray, i: int, j: int, k: int) -> int:
    """1 + the row-major index of a cell among those of the bounds."""
    return int(((i - origin[0]) * sides[1] + j - origin[1]) * sides[2] + k - origin[2] + 1)


@kernel
def body_name(sides: np.ndarray, number: int) -> int:
    """The name of the neurite of a body; distinct from the names of sites."""
    return int(sides[0] * sides[1] * sides[2] + number)


@kernel
def _body(
    seed: np.uint64,
    cell: float,
    bodies: BodyGrid,
    site: tuple[int, int, int],
    beyond: tuple[int, int, int],
) -> int:
    """The number of the body that a root joins if the site beyond is in its hole; 0: none."""
    if bodies.radius <= 0.0 or beyond == site:
        return 0
    position = _site(seed, cell, beyond[0], beyond[1], beyond[2])
    if not in_hole(seed, bodies, position):
        return 0
    if uniform(seed + np.uint64(22), site[0], site[1], site[2]) > PROCESSES:
        return 0
    return body_at(seed, bodies, position)[1]


@kernel
def _root(
    seed: np.uint64,
    cell: float,
    bodies: BodyGrid,
    origin: np.ndarray,
    sides: np.ndarray,
    start: tuple[int, int, int],
) -> int:
    """The name of a site's tree: that of its root or, on a ring, the smallest on the ring."""
    slow, fast = start, start
    power, length = 1, 0
    while True:  # Brent's cycle detection
        has, i, j, k = _parent(seed, cell, bodies, fast[0], fast[1], fast[2])
        if not has:
            body = _body(seed, cell, bodies, fast, (i, j, k))
            if body:
                return body_name(sides, body)
            return _name(origin, sides, fast[0], fast[1], fast[2])
        fast = (i, j, k)
        length += 1
        if slow == fast:
            break
        if length == power:
            slow, power, length = fast, 2 * power, 0
    smallest = _name(origin, sides, fast[0], fast[1], fast[2])
    for _ in range(length):
        _, i, j, k = _parent(seed, cell, bodies, fast[0], fast[1], fast[2])
        fast = (i, j, k)
        smallest = min(smallest, _name(origin, sides, i, j, k))
    return smallest


@kernel
def _caliber(seed: np.uint64, cell: float, i: int, j: int, k: int) -> tuple[float, float]:
    """Weight of a site in the power distance, and radius of its mitochondrion (voxels; 0: none)."""
    rod = _rod(i, j, k)
    if rod < 0:
        return 0.0, 0.0
    bits = _rod_hash(seed, rod, i, j, k)
    thick = np.float64((bits >> np.uint64(8)) & np.uint64(0xFFFF)) / 65536.0
    swelling = uniform(seed + np.uint64(30), i, j, k)  # varicosities
    weight = THICK * cell * cell * (thick * thick + 0.35 * swelling * swelling * swelling)
    # mitochondria occupy runs of three sites of the thicker rods
    along = (i, j, k)[rod] // 3
    chance = uniform(seed + np.uint64(31), along, np.int64(bits >> np.uint64(40)), rod)
    return weight, (MITOCHONDRION * cell if thick > 0.35 and chance < 0.4 else 0.0)


@kernel
def _load_site(seed: np.uint64, cell: float, i: int, j: int, k: int, point: np.ndarray) -> None:
    """Write position, weight and mitochondrion radius of a site to `point`."""
    point[0], point[1], point[2] = _site(seed, cell, i, j, k)
    point[3], point[4] = _caliber(seed, cell, i, j, k)


@kernel
def _is_far(point: np.ndarray, near: np.ndarray, slack: float) -> bool:
    """Whether a position is more than `slack` voxels outside the box along some axis."""
    far = False
    for axis in range(3):
        far |= point[axis] < near[0, axis] - slack or point[axis] > near[1, axis] + slack
    return far


@kernel
def _append_corner(
    points: np.ndarray,
    used: int,
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    nodes: np.ndarray,
    names: tuple[int, int],
) -> int:
    """Append the axis from halfway to the child, past the site, to halfway to the parent.

    The axis is a quadratic Bezier curve whose control point is the site. The curves of all children
    end at one point, where the parent's curve starts, so the axes of a tree are connected.

    The nodes of a curve are named after the child, or after the site if there is no child; the last
    node is named after the site.
    """
    first = names[0] * SLOTS if names[0] else names[1] * SLOTS + PARTS
    child, site, parent = points
    for part in range(PARTS):
        for end in range(2):
            t = (part + end) / PARTS
            a, b, c = (1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t
            for axis in range(3):
                head = (child[axis] + site[axis]) / 2.0
                tail = (site[axis] + parent[axis]) / 2.0
                ends[used, end, axis] = a * head + b * site[axis] + c * tail
            head, tail = (child[3] + site[3]) / 2.0, (site[3] + parent[3]) / 2.0
            weights[used, end] = a * head + b * site[3] + c * tail
            head, tail = min(child[4], site[4]), min(site[4], parent[4])
            organs[used, end] = a * head + b * site[4] + c * tail
            nodes[used, end] = first + part + end if part + end < PARTS else names[1] * SLOTS
        used += 1
    return used


@kernel
def _append_process(
    seed: np.uint64,
    bodies: BodyGrid,
    points: np.ndarray,
    used: int,
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
) -> None:
    """Append the axis of a process from its root into the body: to the site beyond, then inwards.

    The third piece has length zero; it represents the edge to the centre of the body.
    """
    site, beyond = points[1], points[2]
    centre, _ = body_at(seed, bodies, (beyond[0], beyond[1], beyond[2]))
    square = 0.0
    for axis in range(3):
        square += (beyond[axis] - centre[axis]) ** 2
    part = min(1.0, (bodies.radius - DEEP) / (np.sqrt(square) + 1e-9))
    for axis in range(3):
        last = centre[axis] + part * (beyond[axis] - centre[axis])
        ends[used, 0, axis] = (site[axis] + beyond[axis]) / 2.0
        ends[used, 1, axis] = ends[used + 1, 0, axis] = beyond[axis]
        ends[used + 1, 1, axis] = last
        ends[used + 2, 0, axis] = ends[used + 2, 1, axis] = last
    weights[used : used + 3] = (site[3] + beyond[3]) / 2.0
    organs[used : used + 3] = 0.0


@kernel
def _grow_axes(
    seed: np.uint64,
    cell: float,
    bodies: BodyGrid,
    origin: np.ndarray,
    sides: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    near: np.ndarray,
    slack: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The columns of `Axes` for all pieces that may be near the box `near`, site by site."""
    room = 4096
    ends = np.empty((room, 2, 3))
    weights = np.empty((room, 2))
    organs = np.empty((room, 2))
    owner = np.empty(room, np.int64)
    sites = np.empty(room, np.int64)
    nodes = np.empty((room, 2), np.int64)
    used = 0
    points = np.empty((3, 5))  # child's, site's and parent's z, y, x, weight, organ
    for i in range(low[0], high[0]):
        for j in range(low[1], high[1]):
            for k in range(low[2], high[2]):
                _load_site(seed, cell, i, j, k, points[1])
                if _is_far(points[1], near, slack) or not _site_exists(seed, cell, bodies, i, j, k):
                    continue
                name = _root(seed, cell, bodies, origin, sides, (i, j, k))
                own, body, beyond = _name(origin, sides, i, j, k), 0, 0
                has, a, b, c = _parent(seed, cell, bodies, i, j, k)
                has = has and name != own
                if has:
                    _load_site(seed, cell, a, b, c, points[2])
                else:
                    points[2] = points[1]
                    body = _body(seed, cell, bodies, (i, j, k), (a, b, c))
                    if body and name == body_name(sides, body):
                        _load_site(seed, cell, a, b, c, points[2])
                        beyond = _name(origin, sides, a, b, c)
                if used + 7 * PARTS + 3 > room:
                    room *= 2
                    ends = np.concatenate((ends, np.empty_like(ends)))
                    weights = np.concatenate((weights, np.empty_like(weights)))
                    organs = np.concatenate((organs, np.empty_like(organs)))
                    owner = np.concatenate((owner, np.empty_like(owner)))
                    sites = np.concatenate((sites, np.empty_like(sites)))
                    nodes = np.concatenate((nodes, np.empty_like(nodes)))
                leaf, before = True, used
                for direction in range(6):
                    a, b, c = _step(i, j, k, direction)
                    if not _site_exists(seed, cell, bodies, a, b, c):
                        continue
                    parented, d, e, f = _parent(seed, cell, bodies, a, b, c)
                    # A root on a ring has a parent, but no axis leads to it.
                    child = _name(origin, sides, a, b, c)
                    if parented and (d, e, f) == (i, j, k) and name != child:
                        leaf = False
                        _load_site(seed, cell, a, b, c, points[0])
                        used = _append_corner(
                            points, used, ends, weights, organs, nodes, (child, own)
                        )
                if leaf:
                    points[0] = points[1]
                    used = _append_corner(points, used, ends, weights, organs, nodes, (0, own))
                if beyond:
                    _append_process(seed, bodies, points, used, ends, weights, organs)
                    nodes[used] = own * SLOTS, beyond * SLOTS
                    nodes[used + 1] = beyond * SLOTS, beyond * SLOTS + 1
                    nodes[used + 2] = beyond * SLOTS + 1, name * SLOTS
                    used += 3
                owner[before:used] = name
                sites[before:used] = own
    return ends[:used], weights[:used], organs[:used], owner[:used], sites[:used], nodes[:used]
