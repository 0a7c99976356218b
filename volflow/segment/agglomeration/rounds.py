"""The rounds of the exact agglomeration, each as one step on the graph of a box.

    link     pieces that blocks cut apart become fragments again
    join     every cluster joins across its best edge, all at once
    merge    the greedy run by mean affinity
    small    the greedy run again, for edges of small clusters

With a horizon one more follows, see `seams`.

A step decides all that the box can know and passes up the rest: `faces` of a node, as the graph
has them, are those beyond which there is more to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numba import njit

from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.graph_tables import AXIS, DECIDED, HIGH_FACES, LINK, BlockGraph
from volflow.segment.agglomeration.greedy import Merged, merge_greedily
from volflow.segment.agglomeration.thresholds import cut
from volflow.segment.union_find import components


class Passed(Protocol):
    """What others must be told, as columns."""

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""


class Step(NamedTuple):
    """What a box made of its graph: each node's component, and what others must be told."""

    component: np.ndarray  # uint64, (N,)
    passed: Passed
    cuts: np.ndarray | None = None  # uint64, (N, K), of a greedy run: components at K thresholds


def facing(graph: BlockGraph, faces: int, open: int, *, with_edges: bool) -> BlockGraph:
    """What a round sees of the graph of a block.

    Parameters
    ----------
    graph : BlockGraph
    faces : int
        The faces (bits) beyond which a node has more to come.
    open : int
        Those whose contacts are to be resolved in this round.
    with_edges : bool
        Whether it goes by the contacts inside the block.
    """
    seen = replace(
        graph,
        component=graph.id,
        faces=graph.faces & np.uint8(faces),
        piece_faces=graph.piece_faces & np.uint8(open),
    )
    seen = seen.with_pieces((seen.piece_faces & HIGH_FACES) != 0)
    seen = seen.with_pending((np.uint8(open) >> (2 * (graph.pending_kind & AXIS))) & 1 == 1)
    return seen if with_edges else seen.with_edges(EdgeTable.empty())


def links_only(graph: BlockGraph) -> BlockGraph:
    """The graph without pending contacts between different fragments."""
    return graph.with_pending((graph.pending_kind & LINK) != 0)


def link_pieces(graph: BlockGraph) -> Step:
    """Join across every edge: what is still pending are links, and so were the edges."""
    component = _joined(graph, graph.edges)
    none = graph.with_edges(EdgeTable.empty())
    whole = replace(none, component=component).contracted()
    asked_for = np.zeros(len(whole.id), bool)
    asked_for[whole.pending_node] = True
    asked_for[whole.piece_node] = True
    return Step(component, whole.with_nodes(asked_for))


def join_best(graph: BlockGraph, least: float) -> Step:
    """Join every complete cluster across its best edge, if that scores at least `least`.

    Passed up are the clusters that touch a face. Of their edges to complete clusters, whose
    statistics are final, only the best can still matter; the complete end goes with it, marked
    as one that has decided.
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
    kept = ~known[graph.a] & ~known[graph.b]
    kept[final[best[~known & (best >= 0)]]] = True
    needed = ~known
    needed[graph.a[kept]] = True
    needed[graph.b[kept]] = True
    faces = np.where(chooses, DECIDED, graph.faces)
    passed = replace(graph, component=component, faces=faces).with_edges(graph.edges.rows(kept))
    return Step(component, passed.with_nodes(needed))


def merge_down(graph: BlockGraph, threshold: float, min_size: int = 0) -> Step:
    """Run the greedy agglomeration as far as it can go; what waits is passed up."""
    return _merged(graph, threshold, min_size)[0]


def merge_down_once(graph: BlockGraph, thresholds: Sequence[float]) -> Step:
    """Run it to the lowest of some thresholds (ascending) and tell the components at each.

    On the way down from the boxes above, the k-th name of a node is that which the k-th name of
    its component gets there; see `dendrogram`.
    """
    step, merged = _merged(graph, thresholds[0])
    return step._replace(cuts=graph.id[cut(merged, thresholds)])


def _merged(graph: BlockGraph, threshold: float, min_size: int = 0) -> tuple[Step, Merged]:
    merged = merge_greedily(graph.size, graph.edges, graph.faces != 0, threshold, min_size)
    component = graph.id[merged.cluster]
    waiting = replace(graph, component=component).with_nodes(merged.waiting)
    return Step(component, waiting.contracted()), merged


def _joined(graph: BlockGraph, edges: EdgeTable) -> np.ndarray:
    """The component of each node after joining those of the ends of some edges."""
    names, at = np.unique(graph.component, return_inverse=True)
    found: np.ndarray = names[components(len(names), at[edges.a], at[edges.b])][at]
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _best_edges(
    count: int, a: np.ndarray, b: np.ndarray, affinity_sum: np.ndarray, contact: np.ndarray
) -> np.ndarray:
    """Each node's best edge, -1 if it has none: score, smaller larger node, smaller smaller."""
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
