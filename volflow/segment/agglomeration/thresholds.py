"""Segments at several thresholds from one greedy run.

The best score never rises in the course of a run: the mean of two pooled contacts is between their
means, and neither was above the score merged before. So the run to a threshold is a prefix of the
run to any lower threshold, namely all merges of at least that score, and the merges of one run to
the lowest threshold contain the runs to all of them.

    score  0.9   0.7   0.5   0.3              at 0.6 the clusters are ab, c, d and e;
            a-b   .     .     .               at 0.4: abc, d, e
             `----c'    .     .
                  `----- ... d-e waits        passed up to the next box, which knows more

A box passes up each waiting cluster as a whole. Consider a threshold. If merges inside the cluster
scored less than it, so does every merge above: the cluster's parts at this threshold have their
final names, and none of these is the name of a cluster that was passed up, except that of the part
with the cluster's largest id, which the boxes above leave unchanged. Otherwise the cluster is whole
at this threshold, too, and gets its name from above. In both cases the final name of a node is the
name that its part gets above, threshold by threshold, and no box needs to know which case applies.

References
----------
Murtagh, A Survey of Recent Advances in Hierarchical Clustering Algorithms, The Computer Journal
1983: a reducible linkage gives a dendrogram without inversions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from volflow.segment.agglomeration.graph_tables import BlockGraph
from volflow.segment.agglomeration.greedy import Merged
from volflow.segment.agglomeration.renaming import Renaming
from volflow.segment.union_find import components

PREFIX = "segment_"


def segment_column(threshold: float) -> str:
    """The name of the column with the segments at one of several thresholds."""
    return f"{PREFIX}{float(threshold)!r}"


def thresholds_of(columns: Iterable[str]) -> list[float]:
    """The thresholds of a table of pieces by its columns; empty if it has a single segmentation."""
    return [float(name.removeprefix(PREFIX)) for name in columns if name.startswith(PREFIX)]


def check_sweep(columns: Iterable[str]) -> list[str]:
    """The problem with sweeping over a table of pieces; empty if it has several thresholds."""
    if thresholds_of(columns):
        return []
    return [
        "table: expected segments at several thresholds, got those at one; give agglomerate a "
        "list, such as `threshold: [0.2, 0.3, 0.4]`"
    ]


def chosen_column(columns: Iterable[str], threshold: float | None) -> str:
    """The name of the column with the segments at a threshold; None: of the only one.

    Raises
    ------
    ValueError
        If no column has this threshold, or there are several and no threshold is given.
    """
    known = thresholds_of(columns)
    if not known:
        if threshold is None:
            return "segment"
        raise ValueError(
            f"threshold {threshold} selects one of several, and the table has segments at one "
            f"only; leave it out, or give agglomerate a list of thresholds"
        )
    if threshold is None and len(known) == 1:
        threshold = known[0]
    if threshold not in known:
        problem = "is not given" if threshold is None else f"{threshold} is not in the table"
        raise ValueError(
            f"threshold {problem}; the table has segments at {', '.join(map(repr, known))}"
        )
    return segment_column(threshold)


def clusters_at_thresholds(merged: Merged, thresholds: Sequence[float]) -> np.ndarray:
    """The clusters of a greedy run at each of several thresholds.

    Parameters
    ----------
    merged : Merged
        Result of a run to the lowest of the thresholds, without a size limit.
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

    After the greedy run, the names of all K thresholds are provisional until the boxes above have
    renamed them (`column` is -1). The later rounds work on one threshold each, on the graph of its
    segments.
    """

    graph: BlockGraph
    labels: np.ndarray  # uint64, (N, K)
    column: int = -1  # the threshold whose labels are provisional; -1: all

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {**self.graph.record(), **self.names()}

    def names(self) -> dict[str, np.ndarray]:
        """The columns except those of the graph, which no round after the greedy run changes."""
        return {"labels": self.labels.ravel(), "column": np.array([self.column], np.int64)}

    @classmethod
    def settled(
        cls, stored: dict[str, np.ndarray], received: dict[str, np.ndarray] | None, count: int
    ) -> ThresholdLabels:
        """The labels of a record after the renaming received from the boxes above.

        Parameters
        ----------
        stored : record made by `record`
        received : record of a Renaming, or None
        count : int
            The number of thresholds, K.
        """
        graph, column = BlockGraph.from_record(stored), int(stored["column"][0])
        labels = stored["labels"].reshape(-1, count)
        if column < 0:
            return cls(graph, Renaming.from_record(received, count)(labels))
        labels = labels.copy()
        labels[:, column] = Renaming.from_record(received)(labels[:, column])
        return cls(graph, labels, column)

    def contracted(self) -> ThresholdLabels:
        """The labels on the graph whose nodes are the segments at the highest threshold.

        A segment at the highest threshold is within one segment at all lower thresholds, whatever
        later rounds rename it to.
        """
        ids, first = np.unique(self.labels[:, -1], return_index=True)
        graph = replace(self.graph, component=self.labels[:, -1]).contracted()
        assert len(ids) == len(graph.id)
        return ThresholdLabels(graph, self.labels[first], self.column)

    def at(self, column: int) -> BlockGraph:
        """The graph whose nodes are the segments at one threshold."""
        labels = self.labels[:, column]
        if np.array_equal(labels, self.graph.id):
            return replace(self.graph, component=labels)
        return replace(self.graph, component=labels).contracted()

    def joined(self, column: int, component: np.ndarray) -> ThresholdLabels:
        """The labels after a round on `at(column)` that gave its nodes these components."""
        names, node = np.unique(self.labels[:, column], return_inverse=True)
        assert len(names) == len(component)
        labels = self.labels.copy()
        labels[:, column] = component[node]
        return ThresholdLabels(self.graph, labels, column)
