"""The rounds of the exact agglomeration, each as one step on the graph of a box.

    link     pieces that were cut by block faces become fragments again
    join     every cluster joins across its best edge, all simultaneously
    merge    the greedy run by mean affinity
    small    the greedy run again, for edges of small clusters

With a horizon one more round follows, see `join_across_planes`.

A step decides everything that can be decided within the box and passes up the rest. The `faces` of
a node are those beyond which it may continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from volflow.kernels import kernel
from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.graph_tables import AXIS, DECIDED, HIGH_FACES, LINK, BlockGraph
from volflow.segment.agglomeration.greedy import Merged, merge_greedily
from volflow.segment.agglomeration.thresholds import clusters_at_thresholds
from volflow.segment.union_find import components


class Passed(Protocol):
    """The part of a step's result that is passed up, as columns."""

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""


class Step(NamedTuple):
    """The result of a round in one box: each node's component, and the columns passed up."""

    component: np.ndarray  # uint64, (N,)
    passed: Passed
    by_threshold: np.ndarray | None = None  # uint64, (N, K): components at each of K thresholds


def round_graph(graph: BlockGraph, faces: int, open_faces: int, *, with_edges: bool) -> BlockGraph:
    """The part of a block's graph that a round works on.

    Parameters
    ----------
    graph : BlockGraph
    faces : int
        The faces (bits) beyond which a node may continue.
    open_faces : int
        The faces (bits) whose contacts are resolved in this round.
    with_edges : bool
        Whether the round uses the contacts inside the block.
    """
    graph_of_round = replace(
        graph,
        component=graph.id,
        faces=graph.faces & np.uint8(faces),
        piece_faces=graph.piece_faces & np.uint8(open_faces),
    )
    graph_of_round = graph_of_round.with_pieces((graph_of_round.piece_faces & HIGH_FACES) != 0)
    graph_of_round = graph_of_round.with_pending(
        (np.uint8(open_faces) >> (2 * (graph.pending_kind & AXIS))) & 1 == 1
    )
    return graph_of_round if with_edges else graph_of_round.with_edges(EdgeTable.empty())


def links_only(graph: BlockGraph) -> BlockGraph:
    """The graph without pending contacts between different fragments."""
    return graph.with_pending((graph.pending_kind & LINK) != 0)


def link_pieces(graph: BlockGraph) -> Step:
    """Join across every edge, in a graph whose edges and pending contacts are all links."""
    component = _joined(graph, graph.edges)
    without_edges = graph.with_edges(EdgeTable.empty())
    whole = replace(without_edges, component=component).contracted()
    referenced = np.zeros(len(whole.id), bool)
    referenced[whole.pending_node] = True
    referenced[whole.piece_node] = True
    return Step(component, whole.with_nodes(referenced))


def join_best(graph: BlockGraph, least: float) -> Step:
    """Join every complete cluster across its best edge if that scores at least `least`.

    The clusters that touch a face are passed up. Among their edges to complete clusters, whose
    statistics are final, only the best can still matter; its complete end is passed up as well,
    marked as DECIDED.
    """
    chooses = graph.faces == 0
    known = chooses | (graph.faces == DECIDED)
    worth = graph.edges.score >= least
    best = _best_edges(len(graph.id), *graph.edges)
    chosen = np.zeros(len(graph.a), bool)
    chosen[best[chooses & (best >= 0)]] = True
    component = _joined(graph, graph.edges.rows(chosen & worth))
    final = np.nonzero(worth & (known[graph.a] != known[graph.b]))[0]
    best = _best_edges(len(graph.id), *graph.edges.rows(final))
    retained = ~known[graph.a] & ~known[graph.b]
    retained[final[best[~known & (best >= 0)]]] = True
    needed = ~known
    needed[graph.a[retained]] = True
    needed[graph.b[retained]] = True
    faces = np.where(chooses, DECIDED, graph.faces)
    passed = replace(graph, component=component, faces=faces).with_edges(graph.edges.rows(retained))
    return Step(component, passed.with_nodes(needed))


def merge_down(graph: BlockGraph, threshold: float, min_size: int = 0) -> Step:
    """Run the greedy agglomeration as far as possible; clusters that wait are passed up."""
    return _merged(graph, threshold, min_size)[0]


def merge_down_once(graph: BlockGraph, thresholds: Sequence[float]) -> Step:
    """Run the greedy agglomeration to the lowest threshold, with the components at each.

    On the way down, the k-th name of a node is the name that the k-th name of its component gets
    in the boxes above; see `thresholds`.

    Parameters
    ----------
    graph : BlockGraph
    thresholds : floats, (K,), ascending
    """
    step, merged = _merged(graph, thresholds[0])
    return step._replace(by_threshold=graph.id[clusters_at_thresholds(merged, thresholds)])


def _merged(graph: BlockGraph, threshold: float, min_size: int = 0) -> tuple[Step, Merged]:
    """The step of a greedy run, and its merges."""
    merged = merge_greedily(graph.size, graph.edges, graph.faces != 0, threshold, min_size)
    component = graph.id[merged.cluster]
    waiting = replace(graph, component=component).with_nodes(merged.waiting)
    return Step(component, waiting.contracted()), merged


def _joined(graph: BlockGraph, edges: EdgeTable) -> np.ndarray:
    """The component of each node after joining the components at both ends of the edges."""
    names, at = np.unique(graph.component, return_inverse=True)
    joined: np.ndarray = names[components(len(names), at[edges.a], at[edges.b])][at]
    return joined


@kernel(error_model="numpy")
def _best_edges(
    count: int, a: np.ndarray, b: np.ndarray, affinity_sum: np.ndarray, contact: np.ndarray
) -> np.ndarray:
    """Each node's best edge, -1: none; ties go to the smaller larger node, then smaller node."""
    best = np.full(count, -1, np.int64)
    for edge in range(len(a)):
        score = affinity_sum[edge] / (255 * contact[edge])
        high, low = max(a[edge], b[edge]), min(a[edge], b[edge])
        for node in (a[edge], b[edge]):
            rival = best[node]
            if rival >= 0:
                other = affinity_sum[rival] / (255 * contact[rival])
                other_high = max(a[rival], b[rival])
                if score < other or (score == other and high > other_high):
                    continue
                if score == other and high == other_high and low > min(a[rival], b[rival]):
                    continue
            best[node] = edge
    return best
