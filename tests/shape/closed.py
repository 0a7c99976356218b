"""Properties of a surface of triangles."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from volflow.io.meshes import Surface


def edges(surface: Surface) -> np.ndarray:
    """The directed edges of all triangles, (3 M, 2)."""
    a, b, c = surface.triangles.T
    return np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))])


def is_closed(surface: Surface) -> bool:
    """Whether each directed edge occurs once, and once in the other direction."""
    a, b = edges(surface).T
    count = len(surface.position)
    forward, backward = np.sort(a * count + b), np.sort(b * count + a)
    return bool((np.diff(forward) > 0).all()) and np.array_equal(forward, backward)


def euler_characteristic(surface: Surface) -> int:
    """Vertices - edges + triangles: 2 for a sphere, 0 for a torus."""
    undirected = np.unique(np.sort(edges(surface), axis=1), axis=0)
    return len(np.unique(surface.triangles)) - len(undirected) + len(surface.triangles)


def pieces(surface: Surface) -> int:
    """The number of connected pieces."""
    count, (a, b) = len(surface.position), edges(surface).T
    graph = coo_array((np.ones(len(a)), (a, b)), (count, count))
    return int(connected_components(graph, directed=False)[0])


def volume_of(surface: Surface) -> float:
    """The volume inside, nm³; positive if triangles turn counter-clockwise in x, y, z."""
    a, b, c = np.moveaxis(surface.position[:, ::-1][surface.triangles], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)
