"""Mitochondria by name: the sites of a tree that share a mitochondrion."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel
from volflow.synth.bodies import BodyGrid
from volflow.synth.forest import Axes, Lattice, _caliber, _name, _parent, _site_exists, _step

SITES = 1024  # capacity for the sites of one mitochondrion; typically there are 4 to 10


def mitochondria_of(seed: np.uint64, lattice: Lattice, axes: Axes) -> np.ndarray:
    """The mitochondrion of each piece of axis, int64 (N,); 0 where there is none.

    Connected sites of a tree that have a mitochondrion share it; it is named after the site with
    the smallest name.
    """
    has_organ = axes.organs.max(axis=1) > 0.0
    sites, first, back = np.unique(axes.site[has_organ], return_index=True, return_inverse=True)
    names = _clusters(seed, *lattice, sites, axes.owner[has_organ][first])
    out = np.zeros(len(axes.site), np.int64)
    out[has_organ] = names[back]
    return out


@kernel
def _clusters(
    seed: np.uint64,
    cell: float,
    bodies: BodyGrid,
    origin: np.ndarray,
    sides: np.ndarray,
    sites: np.ndarray,
    owner: np.ndarray,
) -> np.ndarray:
    """The smallest name among the sites that share a mitochondrion with each site."""
    out = np.zeros(len(sites), np.int64)
    members = np.empty((SITES, 3), np.int64)
    for n in range(len(sites)):
        index = sites[n] - 1
        plane = sides[1] * sides[2]
        members[0, 0] = index // plane + origin[0]
        members[0, 1] = index % plane // sides[2] + origin[1]
        members[0, 2] = index % sides[2] + origin[2]
        if _caliber(seed, cell, members[0, 0], members[0, 1], members[0, 2])[1] <= 0.0:
            continue
        smallest, count, done = sites[n], 1, 0
        while done < count:
            i, j, k = members[done]
            done += 1
            has, d, e, f = _parent(seed, cell, bodies, i, j, k)
            has = has and _name(origin, sides, i, j, k) != owner[n]
            for direction in range(6):
                a, b, c = _step(i, j, k, direction)
                joined = has and (a, b, c) == (d, e, f)
                if _caliber(seed, cell, a, b, c)[1] <= 0.0:
                    continue
                if not joined:
                    joined = _is_child(seed, cell, bodies, (a, b, c), (i, j, k))
                    joined = joined and _name(origin, sides, a, b, c) != owner[n]
                for m in range(count):
                    joined &= not (members[m, 0] == a and members[m, 1] == b and members[m, 2] == c)
                if joined and count < SITES:
                    members[count, 0], members[count, 1], members[count, 2] = a, b, c
                    count += 1
                    smallest = min(smallest, _name(origin, sides, a, b, c))
        out[n] = smallest
    return out


@kernel
def _is_child(
    seed: np.uint64,
    cell: float,
    bodies: BodyGrid,
    child: tuple[int, int, int],
    parent: tuple[int, int, int],
) -> bool:
    """Whether a site exists and has this parent."""
    if not _site_exists(seed, cell, bodies, child[0], child[1], child[2]):
        return False
    has, i, j, k = _parent(seed, cell, bodies, child[0], child[1], child[2])
    return has and (i, j, k) == parent
