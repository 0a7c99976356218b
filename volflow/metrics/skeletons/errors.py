"""Splits and mergers of skeletons by a segmentation, the worst first.

Their order and positions depend on lengths, positions and names alone, never on the order of
skeletons or nodes in the input.
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
    """Edges between two segments, sorted by the runs that they separate, the longest first.

    Attributes
    ----------
    edge : int64 array, (K,)
        Index into the edges of the forest.
    skeleton : int64 array, (K,)
        Index of the skeleton.
    labels : uint64 array, (K, 2)
        The two segments, the smaller label first; neither is 0.
    position : float64 array, (K, 3)
        Centre of the edge, z, y, x in nanometres.
    length : float64 array, (K,)
        The shorter of the two segments' runs along the skeleton, in nanometres.
    """

    edge: np.ndarray
    skeleton: np.ndarray
    labels: np.ndarray
    position: np.ndarray
    length: np.ndarray


class SharedRun(NamedTuple):
    """One skeleton's part in a shared segment; `position` is z, y, x in nanometres."""

    skeleton: int
    length: float
    nodes: int
    position: tuple[float, float, float]


class Merge(NamedTuple):
    """A segment that has nodes of several skeletons.

    Attributes
    ----------
    label : int
        The segment.
    length : float
        Run length of all skeletons but the first, in nanometres.
    counted : bool
        Whether the rule counts it as a merger; otherwise it is tolerated.
    parts : tuple of SharedRun
        The skeletons, the longest run first. The position of each is its node nearest to the
        first one's nodes in the segment; that of the first is its node nearest to any of these.
    """

    label: int
    length: float
    counted: bool
    parts: tuple[SharedRun, ...]


def split_edges(forest: SkeletonForest, label: np.ndarray, runs: RunLengths) -> Splits:
    """All edges whose two nodes are in different segments.

    Parameters
    ----------
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background. An edge to the background is no split.
    runs : RunLengths
        Of this forest and these labels.
    """
    labels = node_labels(forest, label)
    ends = labels[forest.edges]
    edge = np.flatnonzero((ends[:, 0] != ends[:, 1]) & (ends != 0).all(axis=1))
    own = forest.skeleton[forest.edges[edge, 0]]
    run = runs.length[runs.find_rows(np.repeat(own, 2), ends[edge].ravel())].reshape(-1, 2)
    places = forest.position[forest.edges[edge]]
    splits = Splits(
        edge, own, np.sort(ends[edge], axis=1), (places[:, 0] + places[:, 1]) / 2, run.min(axis=1)
    )
    names = np.array(forest.names, object)[own]
    rank = np.unique(names, return_inverse=True)[1] if len(own) else own
    order = np.lexsort((*splits.labels.T[::-1], *splits.position.T[::-1], rank, -splits.length))
    return Splits(*(getattr(splits, name)[order] for name in Splits.__slots__))


def omitted_edges(forest: SkeletonForest, label: np.ndarray) -> np.ndarray:
    """Whether an edge has a node on background and so belongs to no run; bool (E,)."""
    omitted: np.ndarray = (node_labels(forest, label)[forest.edges] == 0).any(axis=1)
    return omitted


def merged_segments(
    forest: SkeletonForest,
    label: np.ndarray,
    runs: RunLengths,
    merged: np.ndarray,
    *,
    worst: int | None = None,
) -> list[Merge]:
    """Segments that have nodes of several skeletons, whether counted or tolerated.

    Counted ones come first; within each kind they are sorted by the run length of all skeletons
    but the first, then by the number of their nodes.

    Parameters
    ----------
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background.
    runs : RunLengths
        Of this forest and these labels.
    merged : uint64 array
        The segments that count as mergers, see `merged_labels`.
    worst : int, optional
        Greatest number of segments to return.
    """
    labels = node_labels(forest, label)
    counted = set(merged.tolist())
    shared = []
    for start, stop in shared_rows(runs):
        rows = range(start, stop)
        order = sorted(
            rows, key=lambda r: (-runs.length[r], -runs.nodes[r], forest.names[runs.skeleton[r]])
        )
        length = math.fsum(runs.length[order[1:]])
        nodes = int(runs.nodes[order[1:]].sum())
        name = int(runs.label[start])
        shared.append((name not in counted, -length, -nodes, name, order))
    shared.sort(key=lambda merge: merge[:4])
    shown = shared[:worst]
    nodes_in = _nodes_in(labels, [merge[3] for merge in shown])
    return [
        Merge(name, -length, not tolerated, _parts(forest, runs, order, nodes_in[name]))
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
    forest: SkeletonForest, runs: RunLengths, order: list[int], nodes: np.ndarray
) -> tuple[SharedRun, ...]:
    """Each skeleton's run in a segment, with the node that is nearest to the first one's."""
    # sorted by position within a skeleton, so that positions decide ties
    nodes = nodes[np.lexsort((*forest.position[nodes].T[::-1], forest.skeleton[nodes]))]
    owner = forest.skeleton[nodes]
    start = np.searchsorted(owner, runs.skeleton[order]).tolist()
    stop = np.searchsorted(owner, runs.skeleton[order], side="right").tolist()
    main = forest.position[nodes[start[0] : stop[0]]]
    tree = cKDTree(main)
    best = (np.inf, (0.0, 0.0, 0.0))
    others = []
    for row, a, b in zip(order[1:], start[1:], stop[1:], strict=True):
        own = forest.position[nodes[a:b]]
        distance, partner = tree.query(own)
        at = int(np.argmin(distance))
        others.append(_shared(forest, runs, row, own[at]))
        best = min(best, (float(distance[at]), _place(main[partner[at]])))
    first = _shared(forest, runs, order[0], np.array(best[1]))
    return (first, *others)


def _shared(forest: SkeletonForest, runs: RunLengths, row: int, place: np.ndarray) -> SharedRun:
    """A row of the run lengths, with a position."""
    name = forest.names[runs.skeleton[row]]
    return SharedRun(name, float(runs.length[row]), int(runs.nodes[row]), _place(place))


def _place(place: np.ndarray) -> tuple[float, float, float]:
    """A position as plain numbers."""
    z, y, x = place.tolist()
    return z, y, x
