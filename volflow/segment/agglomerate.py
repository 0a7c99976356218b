"""Greedy agglomeration by mean affinity, exact also where part of the graph is still unknown.

An edge's score is `affinity_sum / (255 * contact)`. Best score first, then the smaller larger
id, then the smaller smaller id; a cluster keeps the larger id. With this order no merge makes an
edge that beats both edges it came from. Two things follow: a key in the heap is never too small
(so it is enough to correct it when it comes to the top), and two clusters that are each other's
best can merge before anything else does (so a part of the volume can go ahead alone, as long as
what touches the unknown waits).

References
----------
Murtagh, A Survey of Recent Advances in Hierarchical Clustering Algorithms, The Computer Journal
1983 (reducibility, reciprocal nearest neighbours). Lu, Zlateski, Seung, Large-scale image
segmentation based on distributed clustering algorithms, arXiv:2106.10795 (waiting at the faces of
chunks). Ours waits by contagion from the top of the heap, and breaks ties by ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from volflow.segment.contacts import EdgeTable
from volflow.segment.pairs import EMPTY, group_pairs, pair_key, slot_of, sum_groups, table_size

NO_SCORE = -1.0  # of an edge that is not in the heap


class Merged(NamedTuple):
    """What became of each node.

    cluster : int64, (N,)
        The largest node of the node's cluster.
    waiting : bool, (N,)
        Whether the node's cluster waits for what lies beyond the graph.
    """

    cluster: np.ndarray
    waiting: np.ndarray


def agglomerate(
    id: np.ndarray,
    size: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    affinity_sum: np.ndarray,
    contact: np.ndarray,
    threshold: float,
    *,
    min_size: int = 0,
) -> np.ndarray:
    """The cluster of each node of a whole graph.

    Parameters
    ----------
    id : uint64, (N,)
        Distinct ids, in any order.
    size : int64, (N,)
        Voxels of each node.
    a, b : uint64, (E,)
        Ids of the two ends of each edge; a pair that comes twice is pooled.
    affinity_sum, contact : int64, (E,)
        Sum of the uint8 affinities across the contact, and number of touching voxel pairs.
    threshold : float
        Edges below this score do not merge.
    min_size : int
        If above 0, an edge merges only while one of its sides has fewer voxels than this.

    Returns
    -------
    uint64, (N,)
        The largest id of each node's cluster.

    Raises
    ------
    ValueError
        If ids come twice, an edge names an unknown id, or columns differ in length.
    """
    order = np.argsort(id, kind="stable")
    known = id[order]
    if len(size) != len(id) or len({len(a), len(b), len(affinity_sum), len(contact)}) > 1:
        raise ValueError("each node needs one id and one size, each edge one value in each column")
    if (known[1:] == known[:-1]).any():
        raise ValueError("an id comes twice")
    ends = [np.searchsorted(known, end) for end in (a, b)]
    for end, found in zip((a, b), ends, strict=True):
        if len(end) and (found.max() == len(known) or (known[found] != end).any()):
            raise ValueError("an edge names an id that is not among the nodes")
    edges = pool_edges(EdgeTable(ends[0], ends[1], np.asarray(affinity_sum), np.asarray(contact)))
    free = np.zeros(len(id), bool)
    merged = merge_greedily(np.asarray(size)[order], edges, free, threshold, min_size)
    clusters = np.empty_like(known)
    clusters[order] = known[merged.cluster]
    return clusters


def pool_edges(edges: EdgeTable) -> EdgeTable:
    """Edges with one row per unordered pair, `a` < `b`, none from a node to itself."""
    apart = edges.a != edges.b
    if not apart.all():
        edges = edges.rows(apart)
    group, count = group_pairs(edges.a, edges.b)
    low, high = np.zeros(count, np.int32), np.zeros(count, np.int32)
    low[group], high[group] = np.minimum(edges.a, edges.b), np.maximum(edges.a, edges.b)
    affinity_sum = sum_groups(group, count, edges.affinity_sum)
    return EdgeTable(low, high, affinity_sum, sum_groups(group, count, edges.contact))


def merge_greedily(
    size: np.ndarray, edges: EdgeTable, open: np.ndarray, threshold: float, min_size: int = 0
) -> Merged:
    """Merge until no edge reaches the threshold, or all that do have to wait.

    Parameters
    ----------
    size : int64, (N,)
        Voxels of each node; nodes are in the order of their ids.
    edges : EdgeTable
        One row per pair of nodes.
    open : bool, (N,)
        Nodes that may have contacts and voxels beyond this graph. They do not merge, and what
        would merge with one of them waits as well.
    threshold : float
        In the unit of scores, 0 to 1.
    min_size : int
        If above 0, an edge merges only while one of its sides has fewer voxels than this.
    """
    cluster, waiting = _merge(
        size.astype(np.int64),
        edges.a.astype(np.int32),
        edges.b.astype(np.int32),
        edges.affinity_sum.astype(np.int64),
        edges.contact.astype(np.int64),
        open.astype(np.bool_),
        float(threshold),
        min_size,
    )
    return Merged(cluster, waiting)


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(
    size: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    affinity_sum: np.ndarray,
    contact: np.ndarray,
    waiting: np.ndarray,
    threshold: float,
    min_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The greedy pass; the arrays are overwritten.

    A cluster lives in a *place*, one of its nodes; `name` is its largest node.
    """
    count = len(size)
    name = np.arange(count).astype(np.int32)
    place = np.arange(count)
    head, following, degree = _half_edges(count, a, b)
    gone = np.zeros(len(a), np.bool_)
    keys, edge_at = _pair_table(a, b, gone)
    spare = len(keys) // 4  # keys that may still be added before the table is made anew
    score, larger, smaller = affinity_sum / (255 * contact), np.maximum(a, b), np.minimum(a, b)
    heap = np.nonzero(score >= threshold)[0].astype(np.int32)
    score[score < threshold] = NO_SCORE
    length = len(heap)
    for top in range(length // 2 - 1, -1, -1):
        _sift(heap, length, top, score, larger, smaller)
    while length:
        edge = heap[0]
        if not gone[edge]:
            u, v = a[edge], b[edge]
            now = affinity_sum[edge] / (255 * contact[edge])
            first, second = max(name[u], name[v]), min(name[u], name[v])
            stale = now != score[edge] or first != larger[edge] or second != smaller[edge]
            if stale and now >= threshold:
                score[edge], larger[edge], smaller[edge] = now, first, second
                _sift(heap, length, 0, score, larger, smaller)
                continue
            score[edge] = NO_SCORE
            if now < threshold or (min_size > 0 and min(size[u], size[v]) >= min_size):
                pass
            elif waiting[u] or waiting[v]:
                waiting[u] = waiting[v] = True
            else:
                if degree[u] > degree[v]:
                    u, v = v, u
                gone[edge] = True
                place[u] = v
                name[v] = first
                size[v] += size[u]
                if degree[u] > spare:
                    keys, edge_at = _pair_table(a, b, gone)
                    spare = len(keys) // 4
                spare -= _absorb(
                    u, v, a, b, affinity_sum, contact, score, larger, smaller,
                    gone, head, following, degree, keys, edge_at,
                )  # fmt: skip
        length -= 1
        heap[0] = heap[length]
        _sift(heap, length, 0, score, larger, smaller)
    for node in range(count):
        end = place[node]
        while place[end] != end:
            end = place[end]
        place[node] = end
    for node in range(count):
        waiting[node] = waiting[place[node]]
    return name[place].astype(np.int64), waiting


@njit(cache=True, nogil=True)
def _half_edges(
    count: int, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linked lists of each node's half edges: 2 * edge at its `a`, 2 * edge + 1 at its `b`."""
    head = np.full(count, -1, np.int32)
    following = np.empty(2 * len(a), np.int32)
    degree = np.zeros(count, np.int32)
    for edge in range(len(a)):
        for half, node in ((2 * edge, a[edge]), (2 * edge + 1, b[edge])):
            following[half] = head[node]
            head[node] = half
            degree[node] += 1
    return head, following, degree


@njit(cache=True, nogil=True)
def _pair_table(a: np.ndarray, b: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A table from pairs of places to their edge, at most half full."""
    alive = 0
    for edge in range(len(a)):
        alive += not gone[edge]
    keys = np.full(table_size(alive), EMPTY, np.uint64)
    edge_at = np.empty(len(keys), np.int32)
    for edge in range(len(a)):
        if not gone[edge]:
            key = pair_key(a[edge], b[edge])
            slot = slot_of(keys, key)
            keys[slot] = key
            edge_at[slot] = edge
    return keys, edge_at


@njit(cache=True, nogil=True)
def _before(e: int, f: int, score: np.ndarray, larger: np.ndarray, smaller: np.ndarray) -> bool:
    """Whether edge e comes before edge f by the keys they have."""
    if score[e] != score[f]:
        return bool(score[e] > score[f])
    if larger[e] != larger[f]:
        return bool(larger[e] < larger[f])
    return bool(smaller[e] < smaller[f])


@njit(cache=True, nogil=True)
def _sift(
    heap: np.ndarray,
    length: int,
    top: int,
    score: np.ndarray,
    larger: np.ndarray,
    smaller: np.ndarray,
) -> None:
    """Let the edge at `top` sink to where no edge below it comes before it."""
    edge = heap[top]
    while True:
        child = 2 * top + 1
        if child >= length:
            break
        if child + 1 < length and _before(heap[child + 1], heap[child], score, larger, smaller):
            child += 1
        if not _before(heap[child], edge, score, larger, smaller):
            break
        heap[top] = heap[child]
        top = child
    heap[top] = edge


@njit(cache=True, nogil=True)
def _absorb(
    u: int,
    v: int,
    a: np.ndarray,
    b: np.ndarray,
    affinity_sum: np.ndarray,
    contact: np.ndarray,
    score: np.ndarray,
    larger: np.ndarray,
    smaller: np.ndarray,
    gone: np.ndarray,
    head: np.ndarray,
    following: np.ndarray,
    degree: np.ndarray,
    keys: np.ndarray,
    edge_at: np.ndarray,
) -> int:
    """Hand the edges of place u to place v; returns how many keys the table got.

    Where both had an edge to the same place, the one with the better key stays, with the
    statistics of both. Keys of u stay in the table, and are never looked up again.
    """
    added = 0
    degree[v] -= 1  # the edge between the two
    half = head[u]
    while half >= 0:
        after, edge = following[half], half >> 1
        if not gone[edge]:
            other = b[edge] if half & 1 == 0 else a[edge]
            key = pair_key(v, other)
            slot = slot_of(keys, key)
            if keys[slot] == EMPTY:
                keys[slot] = key
                added += 1
                degree[v] += 1
                moves = True
            else:
                twin = edge_at[slot]
                degree[other] -= 1
                moves = _before(edge, twin, score, larger, smaller)
                stays, goes = (edge, twin) if moves else (twin, edge)
                affinity_sum[stays] += affinity_sum[goes]
                contact[stays] += contact[goes]
                gone[goes] = True
            if moves:
                edge_at[slot] = edge
                if half & 1 == 0:
                    a[edge] = v
                else:
                    b[edge] = v
                following[half] = head[v]
                head[v] = half
        half = after
    return added
