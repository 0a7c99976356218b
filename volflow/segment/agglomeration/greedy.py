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

from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.pair_table import group_pairs, pair_key, sum_groups, table_size

# What belongs to one edge or node is used at once, and so lies side by side in memory. An edge's
# key in the heap, `score` and `tie`, is never worse than its true one.
EDGE = np.dtype(
    [
        ("affinity_sum", np.int64),
        ("contact", np.int64),  # 0: the edge is gone
        ("score", np.float64),  # NO_SCORE: not in the heap
        ("tie", np.int64),  # the larger name << 32 | the smaller name
        ("a", np.int32),
        ("b", np.int32),
        ("after_a", np.int32),  # the next half edge of `a`: 2 * edge at its `a`, + 1 at its `b`
        ("after_b", np.int32),
    ]
)
NODE = np.dtype(
    [
        ("size", np.int64),
        ("place", np.int32),  # the node that the cluster lives in, if followed to its end
        ("name", np.int32),  # of a cluster: its largest node
        ("head", np.int32),  # its first half edge, -1: none
        ("degree", np.int32),
        ("waiting", np.int64),
    ]
)
ENTRY = np.dtype([("score", np.float64), ("tie", np.int64), ("edge", np.int64)])
NO_SCORE = -1.0


class Merged(NamedTuple):
    """What became of each node.

    cluster : int64, (N,)
        The largest node of the node's cluster.
    waiting : bool, (N,)
        Whether the node's cluster waits for what lies beyond the graph.
    into : int32, (N,)
        The tree of merges. A cluster lives in one of its nodes; when it merges, it moves into the
        node that the other one lives in, told here (-1 for a node that nobody has left).
    score : float64, (N,)
        The score of that merge.
    """

    cluster: np.ndarray
    waiting: np.ndarray
    into: np.ndarray
    score: np.ndarray


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
    nodes = np.zeros(len(size), NODE)
    nodes["size"], nodes["waiting"] = size, open
    nodes["place"] = nodes["name"] = np.arange(len(size))
    table = np.zeros(len(edges.a), EDGE)
    for name in ("a", "b", "affinity_sum", "contact"):
        table[name] = getattr(edges, name)
    table["score"] = edges.score
    table["tie"] = np.maximum(edges.a, edges.b)
    table["tie"] <<= 32
    table["tie"] |= np.minimum(edges.a, edges.b)
    into, score = np.full(len(size), -1, np.int32), np.zeros(len(size))
    _merge(nodes, table, float(threshold), min_size, into, score)
    place = nodes["place"]
    cluster = nodes["name"][place].astype(np.int64)
    return Merged(cluster, nodes["waiting"][place] != 0, into, score)


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(
    nodes: np.ndarray,
    edges: np.ndarray,
    threshold: float,
    min_size: int,
    into: np.ndarray,
    score: np.ndarray,
) -> None:
    """The greedy pass; both tables are overwritten, merges are told in `into` and `score`."""
    _link_half_edges(nodes, edges)
    table = _pair_table(edges)
    spare = len(table) // 4  # pairs that may still be added before the table is made anew
    heap = _heap(edges, threshold)
    length = len(heap)
    while length:
        top = heap[0].edge
        edge = edges[top]
        if edge.contact > 0:
            u, v = nodes[edge.a], nodes[edge.b]
            now = edge.affinity_sum / (255 * edge.contact)
            larger = max(u.name, v.name)
            tie = np.int64(larger) << 32 | min(u.name, v.name)
            if now >= threshold and (now != edge.score or tie != edge.tie):
                edge.score, edge.tie = now, tie
                heap[0].score, heap[0].tie = now, tie
                _sift(heap, length, 0)
                continue
            edge.score = NO_SCORE
            if now < threshold or (min_size > 0 and min(u.size, v.size) >= min_size):
                pass
            elif u.waiting or v.waiting:
                u.waiting = v.waiting = 1
            else:
                goes, stays = edge.a, edge.b
                if u.degree > v.degree:
                    goes, stays = stays, goes
                edge.contact = 0
                nodes[goes].place = into[goes] = stays
                score[goes] = now
                nodes[stays].name = larger
                nodes[stays].size += nodes[goes].size
                if nodes[goes].degree > spare:
                    table = _pair_table(edges)
                    spare = len(table) // 4
                spare -= _absorb(goes, stays, nodes, edges, table)
        length -= 1
        heap[0] = heap[length]
        _sift(heap, length, 0)
    for node in range(len(nodes)):
        end = nodes[node].place
        while nodes[end].place != end:
            end = nodes[end].place
        nodes[node].place = end


@njit(cache=True, nogil=True)
def _link_half_edges(nodes: np.ndarray, edges: np.ndarray) -> None:
    """Make each node's list of half edges."""
    for node in range(len(nodes)):
        nodes[node].head = -1
    for number in range(len(edges)):
        edge = edges[number]
        edge.after_a, nodes[edge.a].head = nodes[edge.a].head, 2 * number
        edge.after_b, nodes[edge.b].head = nodes[edge.b].head, 2 * number + 1
        nodes[edge.a].degree += 1
        nodes[edge.b].degree += 1


@njit(cache=True, nogil=True)
def _pair_table(edges: np.ndarray) -> np.ndarray:
    """A table from pairs of places to the edge between them (-1: free), at most half full.

    Only the edge is stored: what it joins is read from the edge itself. So an edge that moved
    on to other places, or is gone, is simply not what is looked for.
    """
    alive = 0
    for number in range(len(edges)):
        alive += edges[number].contact > 0
    table = np.full(table_size(alive), -1, np.int32)
    for number in range(len(edges)):
        if edges[number].contact > 0:
            table[_slot(table, edges, edges[number].a, edges[number].b)] = number
    return table


@njit(cache=True, nogil=True)
def _slot(table: np.ndarray, edges: np.ndarray, u: int, v: int) -> int:
    """Where the edge between two places stands in the table, or the free slot where it would."""
    spread = pair_key(u, v) * np.uint64(0x9E3779B97F4A7C15)
    spread ^= spread >> np.uint64(32)
    last = len(table) - 1
    slot = np.int64(spread & np.uint64(last))
    while table[slot] >= 0:
        edge = edges[table[slot]]
        same = (edge.a == u and edge.b == v) or (edge.a == v and edge.b == u)
        if same and edge.contact > 0:
            break
        slot = (slot + 1) & last
    return int(slot)


@njit(cache=True, nogil=True)
def _heap(edges: np.ndarray, threshold: float) -> np.ndarray:
    """The heap of edges that reach the threshold; the score of others is taken away."""
    length = 0
    for number in range(len(edges)):
        length += edges[number].score >= threshold
    heap = np.empty(length, ENTRY)
    length = 0
    for number in range(len(edges)):
        if edges[number].score >= threshold:
            heap[length].score, heap[length].tie = edges[number].score, edges[number].tie
            heap[length].edge = number
            length += 1
        else:
            edges[number].score = NO_SCORE
    for top in range(length // 2 - 1, -1, -1):
        _sift(heap, length, top)
    return heap


@njit(cache=True, nogil=True)
def _sift(heap: np.ndarray, length: int, top: int) -> None:
    """Let the edge at `top` sink to where no edge below it comes before it."""
    score, tie, edge = heap[top].score, heap[top].tie, heap[top].edge
    while True:
        child = 2 * top + 1
        if child >= length:
            break
        if child + 1 < length and _before(
            heap[child + 1].score, heap[child + 1].tie, heap[child].score, heap[child].tie
        ):
            child += 1
        if not _before(heap[child].score, heap[child].tie, score, tie):
            break
        heap[top] = heap[child]
        top = child
    heap[top].score, heap[top].tie, heap[top].edge = score, tie, edge


@njit(cache=True, nogil=True)
def _before(score: float, tie: int, other_score: float, other_tie: int) -> bool:
    """Whether a key comes before another."""
    return score > other_score or (score == other_score and tie < other_tie)


@njit(cache=True, nogil=True)
def _absorb(goes: int, stays: int, nodes: np.ndarray, edges: np.ndarray, table: np.ndarray) -> int:
    """Hand the edges of one place to another; returns how many pairs the table got.

    Where both had an edge to the same place, the one with the better key remains, with the
    statistics of both.
    """
    added = 0
    nodes[stays].degree -= 1  # the edge between the two
    half = nodes[goes].head
    while half >= 0:
        number, at_a = half >> 1, half & 1 == 0
        edge = edges[number]
        after = edge.after_a if at_a else edge.after_b
        if edge.contact > 0:
            other = edge.b if at_a else edge.a
            slot = _slot(table, edges, stays, other)
            moves = True
            if table[slot] < 0:
                added += 1
                nodes[stays].degree += 1
            else:
                twin = edges[table[slot]]
                nodes[other].degree -= 1
                moves = _before(edge.score, edge.tie, twin.score, twin.tie)
                if moves:
                    edge.affinity_sum += twin.affinity_sum
                    edge.contact += twin.contact
                    twin.contact = 0
                else:
                    twin.affinity_sum += edge.affinity_sum
                    twin.contact += edge.contact
                    edge.contact = 0
            if moves:
                table[slot] = number
                if at_a:
                    edge.a, edge.after_a = stays, nodes[stays].head
                else:
                    edge.b, edge.after_b = stays, nodes[stays].head
                nodes[stays].head = half
        half = after
    return added
