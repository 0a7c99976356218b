"""Where a segmentation splits and merges skeletons, the worst first.

Order, and the node that is shown, depend on lengths, places and names alone, never on the order in
which skeletons or nodes were given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from volflow.metrics.skeletons.forest import SkeletonForest, node_labels
from volflow.metrics.skeletons.run_length import RunLengths, shared_rows


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Edges between two segments, those first that part the longest runs.

    Attributes
    ----------
    edge : int64 array, (K,)
        Index into the edges of the forest.
    skeleton : int64 array, (K,)
        Index of the skeleton.
    labels : uint64 array, (K, 2)
        The two segments, the smaller label first; neither is 0.
    position : float64 array, (K, 3)
        Middle of the edge, z, y, x in nanometres.
    length : float64 array, (K,)
        The shorter of the two segments' runs along the skeleton, in nanometres.
    """

    edge: np.ndarray
    skeleton: np.ndarray
    labels: np.ndarray
    position: np.ndarray
    length: np.ndarray


class Shared(NamedTuple):
    """One skeleton's part in a shared segment; `position` is z, y, x in nanometres."""

    skeleton: int
    length: float
    nodes: int
    position: tuple[float, float, float]


class Merge(NamedTuple):
    """A segment that has nodes of several skeletons.

    `parts` are those skeletons, by name, the longest run first. Each shows its node nearest to
    the first one's nodes in the segment, and the first the node that is nearest to any of theirs.
    `length` is the run of all but the first, in nanometres; `counted` tells a merger that the rule
    counts from one that it tolerates.
    """

    label: int
    length: float
    counted: bool
    parts: tuple[Shared, ...]


def split_edges(traced: SkeletonForest, label: np.ndarray, runs: RunLengths) -> Splits:
    """All edges whose two nodes lie in different segments.

    Parameters
    ----------
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background. An edge that ends there is no split.
    runs : RunLengths
        Of this forest and these labels.
    """
    labels = node_labels(traced, label)
    ends = labels[traced.edges]
    edge = np.flatnonzero((ends[:, 0] != ends[:, 1]) & (ends != 0).all(axis=1))
    own = traced.skeleton[traced.edges[edge, 0]]
    run = runs.length[runs.rows(np.repeat(own, 2), ends[edge].ravel())].reshape(-1, 2)
    places = traced.position[traced.edges[edge]]
    found = Splits(
        edge, own, np.sort(ends[edge], axis=1), (places[:, 0] + places[:, 1]) / 2, run.min(axis=1)
    )
    names = np.array(traced.names, object)[own]
    rank = np.unique(names, return_inverse=True)[1] if len(own) else own
    order = np.lexsort((*found.labels.T[::-1], *found.position.T[::-1], rank, -found.length))
    return Splits(*(getattr(found, name)[order] for name in Splits.__slots__))


def omitted_edges(traced: SkeletonForest, label: np.ndarray) -> np.ndarray:
    """Which edges have a node on background, bool (E,); they belong to no run."""
    omitted: np.ndarray = (node_labels(traced, label)[traced.edges] == 0).any(axis=1)
    return omitted


def merges(
    traced: SkeletonForest,
    label: np.ndarray,
    runs: RunLengths,
    merged: np.ndarray,
    *,
    worst: int | None = None,
) -> list[Merge]:
    """Segments that have nodes of several skeletons, tolerated or not.

    Counted ones come first, then the longer they run along all skeletons but one, then the more
    nodes of these they hold.

    Parameters
    ----------
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background.
    runs : RunLengths
        Of this forest and these labels.
    merged : uint64 array
        The segments that count as mergers.
    worst : int, optional
        How many to tell at most.
    """
    labels = node_labels(traced, label)
    counted = set(merged.tolist())
    found = []
    for start, stop in shared_rows(runs):
        rows = range(start, stop)
        order = sorted(
            rows, key=lambda r: (-runs.length[r], -runs.nodes[r], traced.names[runs.skeleton[r]])
        )
        length = math.fsum(runs.length[order[1:]])
        nodes = int(runs.nodes[order[1:]].sum())
        name = int(runs.label[start])
        found.append((name not in counted, -length, -nodes, name, order))
    found.sort(key=lambda merge: merge[:4])
    shown = found[:worst]
    nodes_in = _nodes_in(labels, [merge[3] for merge in shown])
    return [
        Merge(name, -length, not tolerated, _parts(traced, runs, order, nodes_in[name]))
        for tolerated, length, _, name, order in shown
    ]


def _nodes_in(labels: np.ndarray, names: list[int]) -> dict[int, np.ndarray]:
    """The nodes of each of these segments."""
    some = np.flatnonzero(np.isin(labels, np.array(names, np.uint64)))
    some = some[np.argsort(labels[some], kind="stable")]
    inside = labels[some]
    wanted = np.array(names, np.uint64)
    start = np.searchsorted(inside, wanted)
    stop = np.searchsorted(inside, wanted, side="right")
    return {name: some[a:b] for name, a, b in zip(names, start, stop, strict=True)}


def _parts(
    traced: SkeletonForest, runs: RunLengths, order: list[int], nodes: np.ndarray
) -> tuple[Shared, ...]:
    """Each skeleton's part in a segment, with the node that lies nearest to the first one's."""
    # sorted by place within a skeleton, so that a tie is settled by where nodes lie
    nodes = nodes[np.lexsort((*traced.position[nodes].T[::-1], traced.skeleton[nodes]))]
    owner = traced.skeleton[nodes]
    start = np.searchsorted(owner, runs.skeleton[order]).tolist()
    stop = np.searchsorted(owner, runs.skeleton[order], side="right").tolist()
    main = traced.position[nodes[start[0] : stop[0]]]
    tree = cKDTree(main)
    best = (np.inf, (0.0, 0.0, 0.0))
    others = []
    for row, a, b in zip(order[1:], start[1:], stop[1:], strict=True):
        own = traced.position[nodes[a:b]]
        distance, partner = tree.query(own)
        at = int(np.argmin(distance))
        others.append(_shared(traced, runs, row, own[at]))
        best = min(best, (float(distance[at]), _place(main[partner[at]])))
    first = _shared(traced, runs, order[0], np.array(best[1]))
    return (first, *others)


def _shared(traced: SkeletonForest, runs: RunLengths, row: int, place: np.ndarray) -> Shared:
    """A row of the run lengths, and a place in it."""
    name = traced.names[runs.skeleton[row]]
    return Shared(name, float(runs.length[row]), int(runs.nodes[row]), _place(place))


def _place(place: np.ndarray) -> tuple[float, float, float]:
    """A place as plain numbers."""
    z, y, x = place.tolist()
    return z, y, x
