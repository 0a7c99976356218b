"""The centreline of a neurite: nodes in nanometres, each with its parent and a radius.

0──1──2──3        parent  -1 0 1 2 2 4
      └──4──5     an edge joins a node and its parent; a node without a parent is a root
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """A forest of nodes; edges are (i, parent[i]).

    Attributes
    ----------
    name : int
        Id of the skeleton, such as that of its neuron.
    position : float64 array, (N, 3)
        z, y, x in nanometres, finite.
    parent : int64 array, (N,)
        Index of each node's parent, -1 at a root.
    radius : float64 array, (N,)
        Nanometres, finite and not negative; 0 if unknown.

    Raises
    ------
    ValueError
        If the lengths of the arrays differ, positions or radii are not as above, or parents are
        not indices of nodes or form a cycle.
    """

    name: int
    position: np.ndarray
    parent: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        position = np.asarray(self.position, np.float64)
        radius = np.asarray(self.radius, np.float64)
        parent = np.asarray(self.parent)
        if position.ndim != 2 or position.shape[1:] != (3,):
            raise ValueError(
                f"skeleton {self.name}: positions must be an array (N, 3) of z, y, x in nm; "
                f"got shape {position.shape}"
            )
        if parent.dtype.kind not in "iu" and len(parent):
            raise ValueError(f"skeleton {self.name}: parents must be integers; got {parent.dtype}")
        parent = parent.astype(np.int64)
        if parent.shape != position.shape[:1] or radius.shape != position.shape[:1]:
            raise ValueError(
                f"skeleton {self.name}: {len(position)} nodes need as many parents and radii; "
                f"got shapes {parent.shape} and {radius.shape}"
            )
        problem = forest_problem(parent) or node_problem(position, radius)
        if problem:
            raise ValueError(f"skeleton {self.name}: {problem}")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "parent", parent)
        object.__setattr__(self, "radius", radius)

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def edges(self) -> np.ndarray:
        """The edges, int64 (E, 2): a node and its parent, by the node's index."""
        child = np.flatnonzero(self.parent >= 0)
        return np.stack([child, self.parent[child]], axis=1)

    @property
    def lengths(self) -> np.ndarray:
        """Length of each edge in nanometres, float64 (E,)."""
        ends = self.position[self.edges]
        lengths: np.ndarray = np.sqrt(((ends[:, 0] - ends[:, 1]) ** 2).sum(axis=1))
        return lengths


def from_edges(
    position: np.ndarray, edges: np.ndarray, radius: np.ndarray | None = None, name: int = 0
) -> Skeleton:
    """The forest of an edge list in any order and direction.

    The node with the smallest index in each tree becomes its root. Duplicate edges count once.

    Parameters
    ----------
    position : float array, (N, 3)
        z, y, x in nanometres.
    edges : integer array, (E, 2)
        Indices of the two nodes of each edge.
    radius : float array, (N,), optional
        Nanometres; default: 0.
    name : int
        Id of the skeleton.

    Raises
    ------
    ValueError
        If an edge refers to a node that does not exist, if edges form a cycle, or as `Skeleton`.
    """
    nodes = len(position)
    pairs = np.asarray(edges)
    if pairs.size == 0:
        pairs = np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            f"skeleton {name}: edges must be an integer array (E, 2); "
            f"got {pairs.dtype} of shape {pairs.shape}"
        )
    wrong = ((pairs < 0) | (pairs >= nodes)).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"skeleton {name}: {wrong.sum()} edges refer to nodes outside 0..{nodes - 1}, "
            f"the first is {pairs[wrong][0].tolist()}"
        )
    pairs = np.unique(np.sort(pairs.astype(np.int64), axis=1), axis=0)
    if radius is None:
        radius = np.zeros(nodes)
    if nodes == 0:
        return Skeleton(name, position, np.zeros(0, np.int64), radius)
    return Skeleton(name, position, _rooted(nodes, pairs, name), radius)


def resampled(skeleton: Skeleton, spacing_nm: float) -> Skeleton:
    """The same skeleton with additional nodes, so that no edge is longer than the spacing.

    Each edge is divided into equal parts; radii are interpolated. Existing nodes keep their indices
    and come first. The new positions do not depend on the direction of an edge.

    Raises
    ------
    ValueError
        If the spacing is not a positive number.
    """
    if not (np.isfinite(spacing_nm) and spacing_nm > 0):
        raise ValueError(f"expected a positive spacing in nanometres, got {spacing_nm}")
    child, parent = skeleton.edges.T
    extra = np.maximum(np.ceil(skeleton.lengths / spacing_nm).astype(np.int64) - 1, 0)
    edge = np.repeat(np.arange(len(extra)), extra)
    last = np.cumsum(extra)
    rank = np.arange(len(edge)) - np.repeat(last - extra, extra)  # 0 next to the child
    share = (rank + 1) / (extra[edge] + 1)
    # from the lower end in z, y, x, so that reversing an edge changes no bit
    turned = _before(skeleton.position[parent], skeleton.position[child])[edge]
    share = np.where(turned, (extra[edge] - rank) / (extra[edge] + 1), share)
    low = np.where(turned, parent[edge], child[edge])
    high = np.where(turned, child[edge], parent[edge])
    values = np.concatenate([skeleton.position, skeleton.radius[:, None]], axis=1)
    added = values[low] + share[:, None] * (values[high] - values[low])
    names = len(skeleton) + np.arange(len(edge))
    ends = rank == extra[edge] - 1
    parents = np.concatenate([skeleton.parent, np.where(ends, parent[edge], names + 1)])
    cut = extra > 0
    parents[child[cut]] = len(skeleton) + (last - extra)[cut]
    everything = np.concatenate([values, added])
    return Skeleton(skeleton.name, everything[:, :3], parents, everything[:, 3])


def forest_problem(parent: np.ndarray) -> str:
    """The reason why int64 parents (N,) are not a forest; empty if they are."""
    nodes = len(parent)
    wrong = (parent < -1) | (parent >= nodes)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        return (
            f"{wrong.sum()} parents are outside -1..{nodes - 1}, "
            f"the first is {parent[first]} at node {first}"
        )
    # each round doubles the distance climbed, so a forest needs log2(depth) rounds
    above = parent
    for _ in range(max(nodes, 1).bit_length() + 1):
        open_ = np.flatnonzero(above >= 0)
        if not len(open_):
            return ""
        further = np.full(nodes, -1)
        further[open_] = above[above[open_]]
        above = further
    return f"its edges form a cycle, above {len(open_)} nodes such as node {int(open_[0])}"


def node_problem(position: np.ndarray, radius: np.ndarray) -> str:
    """The first problem of positions (N, 3) and radii (N,); empty if there is none."""
    checks: Sequence[tuple[str, np.ndarray]] = (
        ("positions that are not finite", ~np.isfinite(position).all(axis=1)),
        ("radii that are NaN or infinite", ~np.isfinite(radius)),
        ("negative radii", radius < 0),
    )
    for words, wrong in checks:
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            value = position[first].tolist() if words.startswith("pos") else radius[first]
            return (
                f"{wrong.sum()} of {len(wrong)} nodes have {words}, "
                f"the first is node {first} with {value}"
            )
    return ""


def _rooted(nodes: int, pairs: np.ndarray, name: int) -> np.ndarray:
    """Parents, int64 (N,), of an undirected graph without cycles."""
    # imported here, because every worker imports this module and few of them read skeletons
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    joined = coo_array((np.ones(len(pairs), np.int8), pairs.T), shape=(nodes, nodes)).tocsr()
    trees, member = connected_components(joined, directed=False)
    if len(pairs) > nodes - trees:
        raise ValueError(
            f"skeleton {name}: its edges form {len(pairs) - nodes + trees} cycles; "
            f"expected {nodes - trees} edges for {nodes} nodes in {trees} trees, got {len(pairs)}"
        )
    roots = np.unique(member, return_index=True)[1]
    # one more node above all roots, so that a single search reaches every tree
    above = np.stack([np.full(trees, nodes), roots], axis=1)
    every = np.concatenate([pairs, above])
    graph = coo_array((np.ones(len(every), np.int8), every.T), shape=(nodes + 1, nodes + 1))
    before = breadth_first_order(graph.tocsr(), nodes, directed=False)[1][:nodes]
    return np.where(before == nodes, -1, before).astype(np.int64)


def _before(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether place a comes before place b in the order of z, y, x; bool (N,)."""
    differ = a != b
    axis = differ.argmax(axis=1)
    rows = np.arange(len(a))
    before: np.ndarray = a[rows, axis] < b[rows, axis]
    return before
