"""Many thresholds from one greedy run.

The best score never rises in the course of a run: the mean of two pooled contacts lies between
theirs, and both were at most what was merged before them. So the run to a threshold is the
beginning of the run to any lower one, all merges of at least that score, and one run to the lowest
threshold, which tells its merges, holds them all.

    score  0.9   0.7   0.5   0.3              at 0.6 the clusters are ab, c, d and e;
            a-b   .     .     .               at 0.4: abc, d, e
             `----c'    .     .
                  `----- ... d-e waits        a box tells d-e above, where more is known

A box whose cluster waits passes it up whole. If merges inside the cluster scored less than a
threshold, so does every merge above it: at that threshold its parts have their final names, and
none of these is the name of a cluster that was passed up, but for the part that holds the
cluster's largest id; the boxes above leave that as it is. Otherwise the cluster is whole at that
threshold, too, and its name comes from above. So in both cases the name of a node is what the
name of its part is called above, threshold by threshold, and no box needs to know which case it
is.

References
----------
Murtagh, A Survey of Recent Advances in Hierarchical Clustering Algorithms, The Computer Journal
1983: a linkage that is reducible makes a dendrogram without inversions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from volflow.segment.agglomeration.graph_tables import BlockGraph, Renaming
from volflow.segment.agglomeration.greedy import Merged
from volflow.segment.union_find import components

PREFIX = "segment_"


def segment_column(threshold: float) -> str:
    """The column of a table of pieces that holds the segments at one of several thresholds."""
    return f"{PREFIX}{float(threshold)!r}"


def thresholds_of(columns: Iterable[str]) -> list[float]:
    """The thresholds that the columns of a table of pieces are for, none if it has but one."""
    return [float(name.removeprefix(PREFIX)) for name in columns if name.startswith(PREFIX)]


def not_many(columns: Iterable[str]) -> list[str]:
    """Why the thresholds of a table of pieces cannot be compared; empty if they can."""
    if thresholds_of(columns):
        return []
    return [
        "table holds segments at one threshold only; a sweep is over a list, such as "
        "`threshold: [0.2, 0.3, 0.4]` of agglomerate"
    ]


def chosen_column(columns: Iterable[str], threshold: float | None) -> str:
    """The column of segments at a threshold; at None, the only one.

    Raises
    ------
    ValueError
        If there is none for the threshold, or several and no threshold is given.
    """
    known = thresholds_of(columns)
    if not known:
        if threshold is None:
            return "segment"
        raise ValueError(
            f"threshold {threshold} chooses among several, and the table holds segments at one "
            f"only; leave it out, or have the table made at a list of thresholds"
        )
    if threshold is None and len(known) == 1:
        threshold = known[0]
    if threshold not in known:
        told = "is not given" if threshold is None else f"{threshold} is not there"
        held = ", ".join(map(repr, known))
        raise ValueError(f"threshold {told}; the table holds segments at {held}")
    return segment_column(threshold)


def cut(merged: Merged, thresholds: Sequence[float]) -> np.ndarray:
    """The clusters of a greedy run as they were when it passed each of some thresholds.

    Parameters
    ----------
    merged : Merged
        Of a run without a size limit, to the lowest of the thresholds.
    thresholds : floats, (K,), ascending

    Returns
    -------
    int64, (N, K)
        The largest node of each node's cluster.
    """
    clusters = np.empty((len(merged.cluster), len(thresholds)), np.int64)
    clusters[:, 0] = merged.cluster
    moved = np.nonzero(merged.into >= 0)[0]
    for column, threshold in enumerate(thresholds[1:], 1):
        moved = moved[merged.score[moved] >= threshold]
        clusters[:, column] = components(len(clusters), moved, merged.into[moved])
    return clusters


@dataclass(frozen=True)
class ThresholdLabels:
    """The graph of a block and the segments of its nodes at each of K thresholds.

    After the greedy run names are as far as the block knows (`column` is -1: all K are still to
    be told above). Then rounds work on one threshold each, on the graph of its segments.
    """

    graph: BlockGraph
    labels: np.ndarray  # uint64, (N, K)
    column: int = -1  # the threshold whose labels are still to be told above

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {**self.graph.record(), **self.names()}

    def names(self) -> dict[str, np.ndarray]:
        """The columns without those of the graph, which no round after the greedy run changes."""
        return {"labels": self.labels.ravel(), "column": np.array([self.column], np.int64)}

    @classmethod
    def settled(
        cls, kept: dict[str, np.ndarray], received: dict[str, np.ndarray] | None, count: int
    ) -> ThresholdLabels:
        """Make the cuts of a record, renamed as the boxes above say.

        Parameters
        ----------
        kept : record made by `record`
        received : record of a Renaming, or None
        count : int
            The number of thresholds, K.
        """
        graph, column = BlockGraph.from_record(kept), int(kept["column"][0])
        labels = kept["labels"].reshape(-1, count)
        if column < 0:
            return cls(graph, Renaming.from_record(received, count)(labels))
        labels = labels.copy()
        labels[:, column] = Renaming.from_record(received)(labels[:, column])
        return cls(graph, labels, column)

    def contracted(self) -> ThresholdLabels:
        """The cuts of the graph whose nodes are the segments at the highest threshold.

        What is one segment there is one at all lower thresholds, and under any later names.
        """
        id, first = np.unique(self.labels[:, -1], return_index=True)
        graph = replace(self.graph, component=self.labels[:, -1]).contracted()
        assert len(id) == len(graph.id)
        return ThresholdLabels(graph, self.labels[first], self.column)

    def at(self, column: int) -> BlockGraph:
        """The graph of the segments at one threshold."""
        labels = self.labels[:, column]
        if np.array_equal(labels, self.graph.id):
            return replace(self.graph, component=labels)
        return replace(self.graph, component=labels).contracted()

    def joined(self, column: int, component: np.ndarray) -> ThresholdLabels:
        """The cuts after a round on `at(column)` that made these components of its nodes."""
        names, node = np.unique(self.labels[:, column], return_inverse=True)
        assert len(names) == len(component)
        labels = self.labels.copy()
        labels[:, column] = component[node]
        return ThresholdLabels(self.graph, labels, column)
