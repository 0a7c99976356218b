"""Union-find over small integers; a component is named after its largest member."""

from __future__ import annotations

import numpy as np

from volflow.kernels import kernel


@kernel
def components(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest member of each node's component.

    Parameters
    ----------
    count : int
        Number of nodes.
    a, b : integer arrays, (E,)
        The pairs of nodes that are joined.

    Returns
    -------
    int64, (count,)
    """
    root = np.arange(count)
    for pair in range(len(a)):
        u, v = find(root, a[pair]), find(root, b[pair])
        if u < v:
            root[u] = v
        elif v < u:
            root[v] = u
    for node in range(count):
        root[node] = find(root, node)
    return root


@kernel
def find(root: np.ndarray, node: int) -> int:
    """The root of a node, halving the path to it."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node
