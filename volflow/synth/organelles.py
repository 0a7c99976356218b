"""Mitochondria by name: which sites of a tree lie in one and the same."""

from __future__ import annotations

import numba
import numpy as np

from volflow.synth.bodies import Ground
from volflow.synth.forest import Axes, Lattice, _caliber, _name, _parent, _stands, _step

SITES = 1024  # room for one mitochondrion's; a run of three goes on with 4 to 10


def mitochondria_of(seed: np.uint64, lattice: Lattice, axes: Axes) -> np.ndarray:
    """The mitochondrion of each piece of axis, int64 (N,); 0 where there is none.

    Sites with a mitochondrion that hang together along the tree share one, named after the least
    of them.
    """
    bearing = axes.organs.max(axis=1) > 0.0
    sites, first, back = np.unique(axes.site[bearing], return_index=True, return_inverse=True)
    names = _clusters(seed, *lattice, sites, axes.owner[bearing][first])
    out = np.zeros(len(axes.site), np.int64)
    out[bearing] = names[back]
    return out


@numba.njit(cache=True, nogil=True)
def _clusters(
    seed: np.uint64,
    cell: float,
    ground: Ground,
    origin: np.ndarray,
    sides: np.ndarray,
    sites: np.ndarray,
    owner: np.ndarray,
) -> np.ndarray:
    """The least name among the sites that hang together with each site."""
    out = np.zeros(len(sites), np.int64)
    found = np.empty((SITES, 3), np.int64)
    for n in range(len(sites)):
        index = sites[n] - 1
        plane = sides[1] * sides[2]
        found[0, 0] = index // plane + origin[0]
        found[0, 1] = index % plane // sides[2] + origin[1]
        found[0, 2] = index % sides[2] + origin[2]
        if _caliber(seed, cell, found[0, 0], found[0, 1], found[0, 2])[1] <= 0.0:
            continue
        least, count, done = sites[n], 1, 0
        while done < count:
            i, j, k = found[done]
            done += 1
            has, d, e, f = _parent(seed, cell, ground, i, j, k)
            has = has and _name(origin, sides, i, j, k) != owner[n]
            for direction in range(6):
                a, b, c = _step(i, j, k, direction)
                joined = has and (a, b, c) == (d, e, f)
                if _caliber(seed, cell, a, b, c)[1] <= 0.0:
                    continue
                if not joined:
                    joined = _is_child(seed, cell, ground, (a, b, c), (i, j, k))
                    joined = joined and _name(origin, sides, a, b, c) != owner[n]
                for m in range(count):
                    joined &= not (found[m, 0] == a and found[m, 1] == b and found[m, 2] == c)
                if joined and count < SITES:
                    found[count, 0], found[count, 1], found[count, 2] = a, b, c
                    count += 1
                    least = min(least, _name(origin, sides, a, b, c))
        out[n] = least
    return out


@numba.njit(cache=True, nogil=True)
def _is_child(
    seed: np.uint64,
    cell: float,
    ground: Ground,
    child: tuple[int, int, int],
    parent: tuple[int, int, int],
) -> bool:
    """Whether a site stands and has this parent."""
    if not _stands(seed, cell, ground, child[0], child[1], child[2]):
        return False
    has, i, j, k = _parent(seed, cell, ground, child[0], child[1], child[2])
    return has and (i, j, k) == parent
