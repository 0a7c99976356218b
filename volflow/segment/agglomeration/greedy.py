"""Greedy agglomeration by mean affinity, exact even where part of the graph is unknown.

An edge's score is `affinity_sum / (255 * contact)`. The edge with the best score merges first;
ties go to the edge whose larger id is smaller, then to the one whose smaller id is smaller. A
cluster keeps the larger id. With this order, no merge creates an edge that beats both edges it
was pooled from. Two properties follow. A key in the heap is never too small, so it is enough to
correct it when it reaches the top. Two clusters that are each other's best can merge before any
other, so a part of the volume can proceed alone as long as clusters at unknown contacts wait.

References
----------
Murtagh, A Survey of Recent Advances in Hierarchical Clustering Algorithms, The Computer Journal
1983 (reducibility, reciprocal nearest neighbours). Lu, Zlateski, Seung, Large-scale image
segmentation based on distributed clustering algorithms, arXiv:2106.10795 (waiting at the faces of
chunks). Here waiting spreads by contagion from the top of the heap, and ids break ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.kernels import kernel
from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.pair_table import group_pairs, pair_key, sum_groups, table_size

# All values of an edge or node are used together, so they are adjacent in memory. An edge's key in
# the heap, `score` and `tie`, is never worse than its true key.
EDGE = np.dtype(
    [
        ("affinity_sum", np.int64),
        ("contact", np.int64),  # 0: the edge was removed
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
        ("place", np.int32),  # followed to its end: the node that represents the cluster
        ("name", np.int32),  # of a cluster: its largest node
        ("head", np.int32),  # the first half edge, -1: none
        ("degree", np.int32),
        ("waiting", np.int64),
    ]
)
ENTRY = np.dtype([("score", np.float64), ("tie", np.int64), ("edge", np.int64)])
NO_SCORE = -1.0


class Merged(NamedTuple):
    """The clusters of a greedy run.

    cluster : int64, (N,)
        The largest node of each node's cluster.
    waiting : bool, (N,)
        Whether the node's cluster waits for contacts beyond the graph.
    into : int32, (N,)
        The tree of merges. A cluster is represented by one of its nodes. When two clusters merge,
        one representative is absorbed by the other: its entry here. -1: never absorbed.
    score : float64, (N,)
        The score of that merge.
    """

    cluster: np.ndarray
    waiting: np.ndarray
    into: np.ndarray
    score: np.ndarray


def agglomerate(
    ids: np.ndarray,
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
    ids : uint64, (N,)
        Distinct ids, in any order.
    size : int64, (N,)
        Size of each node in voxels.
    a, b : uint64, (E,)
        Ids of the two ends of each edge; duplicate pairs are pooled.
    affinity_sum, contact : int64, (E,)
        Sum of the uint8 affinities across the contact, and number of touching voxel pairs.
    threshold : float
        Score, 0 to 1, below which edges do not merge.
    min_size : int
        If above 0, an edge merges only while one of its sides has fewer voxels than this.

    Returns
    -------
    uint64, (N,)
        The largest id of each node's cluster.

    Raises
    ------
    ValueError
        If an id is duplicated, an edge refers to an unknown id, or columns differ in length.
    """
    order = np.argsort(ids, kind="stable")
    known = ids[order]
    if len(size) != len(ids) or len({len(a), len(b), len(affinity_sum), len(contact)}) > 1:
        raise ValueError(
            "expected one id and one size per node, and columns of one length per edge"
        )
    if (known[1:] == known[:-1]).any():
        raise ValueError("ids of nodes are not unique")
    ends = [np.searchsorted(known, end) for end in (a, b)]
    for end, position in zip((a, b), ends, strict=True):
        if len(end) and (position.max() == len(known) or (known[position] != end).any()):
            raise ValueError("an edge refers to an id that is not among the nodes")
    edges = pool_edges(EdgeTable(ends[0], ends[1], np.asarray(affinity_sum), np.asarray(contact)))
    free = np.zeros(len(ids), bool)
    merged = merge_greedily(np.asarray(size)[order], edges, free, threshold, min_size)
    clusters = np.empty_like(known)
    clusters[order] = known[merged.cluster]
    return clusters


def pool_edges(edges: EdgeTable) -> EdgeTable:
    """Edges pooled to one row per unordered pair, `a` < `b`, without self-edges."""
    apart = edges.a != edges.b
    if not apart.all():
        edges = edges.rows(apart)
    group, count = group_pairs(edges.a, edges.b)
    low, high = np.zeros(count, np.int32), np.zeros(count, np.int32)
    low[group], high[group] = np.minimum(edges.a, edges.b), np.maximum(edges.a, edges.b)
    affinity_sum = sum_groups(group, count, edges.affinity_sum)
    return EdgeTable(low, high, affinity_sum, sum_groups(group, count, edges.contact))


def merge_greedily(
    size: np.ndarray, edges: EdgeTable, open_nodes: np.ndarray, threshold: float, min_size: int = 0
) -> Merged:
    """Merge until no edge reaches the threshold, or all edges that do have to wait.

    Parameters
    ----------
    size : int64, (N,)
        Size of each node in voxels; nodes are in the order of their ids.
    edges : EdgeTable
        One row per pair of nodes.
    open_nodes : bool, (N,)
        Nodes that may have contacts and voxels beyond this graph. They do not merge, and clusters
        that would merge with one of them wait as well.
    threshold : float
        Score, 0 to 1, below which edges do not merge.
    min_size : int
        If above 0, an edge merges only while one of its sides has fewer voxels than this.
    """
    nodes = np.zeros(len(size), NODE)
    nodes["size"], nodes["waiting"] = size, open_nodes
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


@kernel(error_model="numpy")
def _merge(
    nodes: np.ndarray,
    edges: np.ndarray,
    threshold: float,
    min_size: int,
    into: np.ndarray,
    score: np.ndarray,
) -> None:
    """Run the greedy merge; overwrites both tables and writes merges to `into` and `score`."""
    _link_half_edges(nodes, edges)
    table = _pair_table(edges)
    spare = len(table) // 4  # pairs that may still be added before the table is rebuilt
    heap = _heap(edges, threshold)
    length = len(heap)
    while length:
        top = heap[0].edge
        edge = edges[top]
        if edge.contact > 0:
            u, v = nodes[edge.a], nodes[edge.b]
            current = edge.affinity_sum / (255 * edge.contact)
            larger = max(u.name, v.name)
            tie = np.int64(larger) << 32 | min(u.name, v.name)
            if current >= threshold and (current != edge.score or tie != edge.tie):
                edge.score, edge.tie = current, tie
                heap[0].score, heap[0].tie = current, tie
                _sift(heap, length, 0)
                continue
            edge.score = NO_SCORE
            if current < threshold or (min_size > 0 and min(u.size, v.size) >= min_size):
                pass
            elif u.waiting or v.waiting:
                u.waiting = v.waiting = 1
            else:
                absorbed, absorber = edge.a, edge.b
                if u.degree > v.degree:
                    absorbed, absorber = absorber, absorbed
                edge.contact = 0
                nodes[absorbed].place = into[absorbed] = absorber
                score[absorbed] = current
                nodes[absorber].name = larger
                nodes[absorber].size += nodes[absorbed].size
                if nodes[absorbed].degree > spare:
                    table = _pair_table(edges)
                    spare = len(table) // 4
                spare -= _absorb(absorbed, absorber, nodes, edges, table)
        length -= 1
        heap[0] = heap[length]
        _sift(heap, length, 0)
    for node in range(len(nodes)):
        end = nodes[node].place
        while nodes[end].place != end:
            end = nodes[end].place
        nodes[node].place = end


@kernel
def _link_half_edges(nodes: np.ndarray, edges: np.ndarray) -> None:
    """Build each node's linked list of half edges."""
    for node in range(len(nodes)):
        nodes[node].head = -1
    for number in range(len(edges)):
        edge = edges[number]
        edge.after_a, nodes[edge.a].head = nodes[edge.a].head, 2 * number
        edge.after_b, nodes[edge.b].head = nodes[edge.b].head, 2 * number + 1
        nodes[edge.a].degree += 1
        nodes[edge.b].degree += 1


@kernel
def _pair_table(edges: np.ndarray) -> np.ndarray:
    """A hash table from pairs of nodes to the edge between them (-1: free), at most half full.

    Only the edge's number is stored; its two ends are read from the edge itself. An edge that was
    reattached to other nodes, or removed, therefore no longer matches.
    """
    alive = 0
    for number in range(len(edges)):
        alive += edges[number].contact > 0
    table = np.full(table_size(alive), -1, np.int32)
    for number in range(len(edges)):
        if edges[number].contact > 0:
            table[_slot(table, edges, edges[number].a, edges[number].b)] = number
    return table


@kernel
def _slot(table: np.ndarray, edges: np.ndarray, u: int, v: int) -> int:
    """The slot of the edge between two nodes in the table, or the free slot for it."""
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


@kernel
def _heap(edges: np.ndarray, threshold: float) -> np.ndarray:
    """The heap of edges that reach the threshold; the other edges get NO_SCORE."""
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


@kernel
def _sift(heap: np.ndarray, length: int, top: int) -> None:
    """Sift the entry at `top` down until no entry below it precedes it."""
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


@kernel
def _before(score: float, tie: int, other_score: float, other_tie: int) -> bool:
    """Whether one key precedes another."""
    return score > other_score or (score == other_score and tie < other_tie)


@kernel
def _absorb(
    absorbed: int, absorber: int, nodes: np.ndarray, edges: np.ndarray, table: np.ndarray
) -> int:
    """Reattach the edges of one node to another; returns the number of pairs added to the table.

    Where both had an edge to the same node, the edge with the better key remains, with the pooled
    statistics of both.
    """
    added = 0
    nodes[absorber].degree -= 1  # the edge between the two
    half = nodes[absorbed].head
    while half >= 0:
        number, at_a = half >> 1, half & 1 == 0
        edge = edges[number]
        after = edge.after_a if at_a else edge.after_b
        if edge.contact > 0:
            other = edge.b if at_a else edge.a
            slot = _slot(table, edges, absorber, other)
            moves = True
            if table[slot] < 0:
                added += 1
                nodes[absorber].degree += 1
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
                    edge.a, edge.after_a = absorber, nodes[absorber].head
                else:
                    edge.b, edge.after_b = absorber, nodes[absorber].head
                nodes[absorber].head = half
        half = after
    return added
