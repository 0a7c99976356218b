"""The cell body of a skeleton: the branches inside it become one node, the root.

Paths from the surface of a cell body to its middle are no neurites. The body is the ball around the
thickest node, or around the nucleus, up to the nearest surface.
"""

from __future__ import annotations

import numpy as np

from volflow.core.skeleton import Skeleton
from volflow.shape.forest_parents import forest_parents


def with_soma(skeleton: Skeleton, soma_nm: float, centre_nm: np.ndarray | None = None) -> Skeleton:
    """The skeleton with its cell body as one node, which comes first and is the root of its tree.

    The nodes within the radius of the middle node that are connected with it there become one; the
    number of trees stays.

    Parameters
    ----------
    skeleton : Skeleton
        With at least one node.
    soma_nm : float
        Smallest radius of a cell body in nanometres.
    centre_nm : float array, (3,), optional
        Centre of the nucleus, z, y, x. The middle node is then the nearest one, whatever its
        radius; by default it is the thickest, and there is no cell body if that is thinner.
    """
    if centre_nm is None:
        middle = int(skeleton.radius.argmax())
        if skeleton.radius[middle] < soma_nm:
            return skeleton
    else:
        away = np.linalg.norm(skeleton.position - centre_nm, axis=1)
        middle = int(away.argmin())
    reach = skeleton.radius[middle]
    near = np.linalg.norm(skeleton.position - skeleton.position[middle], axis=1) <= reach
    inside = _connected(skeleton.edges, near, middle)
    chosen = np.append(middle, np.flatnonzero(~inside))
    number = np.zeros(len(skeleton), np.int64)
    number[chosen] = np.arange(len(chosen))  # nodes inside are the first one
    edges = number[skeleton.edges]
    edges = edges[edges[:, 0] != edges[:, 1]]
    parents = forest_parents(len(chosen), edges)
    return Skeleton(skeleton.name, skeleton.position[chosen], parents, skeleton.radius[chosen])


def _connected(edges: np.ndarray, near: np.ndarray, middle: int) -> np.ndarray:
    """The nodes connected with one over nodes that are near, bool (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = edges[near[edges].all(axis=1)]
    graph = coo_array((np.ones(len(own), np.int8), own.T), shape=(len(near), len(near)))
    _, part = connected_components(graph, directed=False)
    return np.asarray(part == part[middle])
