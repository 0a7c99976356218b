"""Expected run length: how far a neurite is followed before the segmentation makes an error.

All skeletons are in one flat forest. Each node has the segment at its position. The edges within
one segment are that segment's run along a skeleton, and a run contributes its square.

    skeleton   o--o--o--o--o--o        ERL = (200^2 + 100^2) / 500 = 100 nm
    segment    1  1  1  2  2  0        edges of 100 nm; those at 1|2 and at 2|0 belong to no run

Every sum is rounded once (`math.fsum`), so no score depends on the order of nodes or skeletons, or
on the names of segments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest, node_labels

MergeRule = Literal["length", "nodes", "pairs"]


@dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """Run lengths of segments along skeletons, sorted by label, then skeleton.

    Attributes
    ----------
    label : uint64 array, (P,)
        A segment; never 0, the background.
    skeleton : int64 array, (P,)
        A skeleton that has nodes in the segment.
    length : float64 array, (P,)
        Sum of the weights of the skeleton's edges with both nodes in the segment; nanometres by
        default.
    nodes : int64 array, (P,)
        Number of the skeleton's nodes in the segment.
    total : float64 array, (S,)
        Sum of the weights of all edges of each skeleton: the run of a perfect segmentation.
    scale : float64 array, (S,)
        Length of each skeleton in nanometres, the divisor of squared runs.
    connected : bool
        Whether the rows are connected runs, of which a label and skeleton may have several.
    """

    label: np.ndarray
    skeleton: np.ndarray
    length: np.ndarray
    nodes: np.ndarray
    total: np.ndarray
    scale: np.ndarray
    connected: bool = False

    def find_rows(self, skeleton: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Index of the row of each skeleton and label, int64 (K,); each pair must exist."""
        names, first = np.unique(self.label, return_index=True)
        # rows are sorted by both, so a label's rank and the skeleton form one ascending key
        rank = np.repeat(np.arange(len(names)), np.diff(np.append(first, len(self.label))))
        width = len(self.scale)
        keys = np.searchsorted(names, label) * width + skeleton
        rows: np.ndarray = np.searchsorted(rank * width + self.skeleton, keys)
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedRunLength:
    """An expected run length.

    Attributes
    ----------
    overall : float
        Over all skeletons, in nanometres; NaN if no skeleton has a length.
    maximum : float
        That of a segmentation without errors.
    skeletons : float64 array, (S,)
        By skeleton; NaN for one that has no length or does not count.
    """

    overall: float
    maximum: float
    skeletons: np.ndarray

    @property
    def ratio(self) -> float:
        """`overall` as a share of `maximum`; 1 for a segmentation without errors."""
        return self.overall / self.maximum if self.maximum > 0 else math.nan


def run_lengths(
    forest: SkeletonForest,
    label: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    connected: bool = False,
) -> RunLengths:
    """Run lengths of segments along skeletons.

    Parameters
    ----------
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background and for nodes outside the volume.
    weight : float array, (E,), optional
        Weight of each edge. Default: its length.
    connected : bool
        Whether a segment that leaves a skeleton and returns starts a new run. By default it does
        not, as in the published formula.

    Raises
    ------
    ValueError
        If the number of labels is not that of the nodes or the number of weights not that of the
        edges, or labels are not integers or negative.

    References
    ----------
    Januszewski et al., High-precision automated reconstruction of neurons with flood-filling
    networks, Nature Methods 2018; Zhai et al., II-CATS, MIDL 2023, eq. (4)-(7).
    """
    labels = node_labels(forest, label)
    weights = forest.lengths if weight is None else weight
    if weights.shape != forest.lengths.shape:
        raise ValueError(
            f"weight: expected {len(forest.lengths)}, one per edge; got shape {weights.shape}"
        )
    keys = [forest.skeleton, labels]
    if connected:
        keys.insert(0, _run_roots(forest, labels))
    order = np.lexsort(keys)
    order = order[np.searchsorted(labels[order], 1) :]  # without the background
    first = np.zeros(len(order), bool)
    first[:1] = True
    for key in keys:
        first[1:] |= key[order[1:]] != key[order[:-1]]
    rows = np.flatnonzero(first)
    row = np.full(len(labels), -1)
    row[order] = np.cumsum(first) - 1
    a, b = row[forest.edges].T
    return RunLengths(
        labels[order[rows]],
        forest.skeleton[order[rows]],
        group_sums(np.where(a == b, a, -1), weights, len(rows)),
        np.diff(np.append(rows, len(order))),
        group_sums(forest.skeleton[forest.edges[:, 0]], weights, len(forest.names)),
        group_sums(forest.skeleton[forest.edges[:, 0]], forest.lengths, len(forest.names)),
        connected,
    )


def merged_labels(
    runs: RunLengths,
    rule: MergeRule = "nodes",
    tau: float = 0.0,
    forbidden: np.ndarray | None = None,
) -> np.ndarray:
    """The segments that count as mergers.

    Parameters
    ----------
    runs : RunLengths
        With lengths as weights.
    rule : {"nodes", "length", "pairs"}
        A segment that has nodes of several skeletons is a merger if the skeleton with the second
        most nodes has at least `tau` nodes in it ("nodes"); if the runs of all skeletons but the
        longest one sum to more than `tau` nanometres ("length"); or if there are more than `tau`
        pairs of nodes of different skeletons ("pairs"). "nodes" with 0, the default, is the
        classic rule: any shared node.
    tau : float
        Tolerance, 0 or more.
    forbidden : integer array, (K,), optional
        Segments known to be mergers, such as those that extend into another kind of cell.

    Returns
    -------
    uint64 array, ascending

    Raises
    ------
    ValueError
        If the rule is unknown, tau is negative, or runs are connected runs.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (8): "pairs" is the printed equation and "length" the
    description in the text. "nodes" is the threshold of AxonEM (Wei et al., MICCAI 2021).
    """
    if rule not in get_args(MergeRule):
        raise ValueError(f"rule: expected one of {', '.join(get_args(MergeRule))}; got {rule!r}")
    if not tau >= 0:
        raise ValueError(f"tau: expected 0 or more; got {tau}")
    if runs.connected:
        raise ValueError("runs: expected runs per segment, got connected runs")
    known = np.unique(np.asarray([] if forbidden is None else forbidden).astype(np.uint64))
    merged = [
        runs.label[start]
        for start, stop in shared_rows(runs)
        if _exceeds(runs.length[start:stop], runs.nodes[start:stop], rule, tau)
    ]
    return np.union1d(np.array(merged, np.uint64), known[known > 0])


def expected_run_length(
    runs: RunLengths, merged: np.ndarray, counted: np.ndarray | None = None
) -> ExpectedRunLength:
    """The expected run length of these runs, where those of merged segments count as 0.

    Parameters
    ----------
    runs : RunLengths
    merged : uint64 array
        Segments whose runs count as 0.
    counted : bool array, (S,), optional
        False where a skeleton does not count; one without length never does.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (6), (7).
    """
    counted = (runs.scale > 0) & (True if counted is None else counted)
    squares = np.where(np.isin(runs.label, merged), 0.0, runs.length) ** 2
    each = group_sums(runs.skeleton, squares, len(runs.scale))
    skeletons = np.full(len(runs.scale), math.nan)
    skeletons[counted] = each[counted] / runs.scale[counted]
    length = math.fsum(runs.scale[counted])
    if not length:
        return ExpectedRunLength(math.nan, math.nan, skeletons)
    runs_squared = math.fsum(squares[counted[runs.skeleton]])
    return ExpectedRunLength(
        runs_squared / length, math.fsum(runs.total[counted] ** 2) / length, skeletons
    )


def erl(
    forest: SkeletonForest,
    label: np.ndarray,
    *,
    rule: MergeRule = "nodes",
    tau: float = 0.0,
    forbidden: np.ndarray | None = None,
    connected: bool = False,
) -> ExpectedRunLength:
    """Expected run length, or tERL if `rule` and `tau` tolerate small mergers.

    The parameters are those of `run_lengths` and `merged_labels`.
    """
    runs = run_lengths(forest, label)
    merged = merged_labels(runs, rule, tau, forbidden)
    return expected_run_length(
        run_lengths(forest, label, connected=True) if connected else runs, merged
    )


def shared_rows(runs: RunLengths) -> list[tuple[int, int]]:
    """First and last row (half-open) of each label that is shared by several skeletons."""
    first = np.ones(len(runs.label), bool)
    first[1:] = runs.label[1:] != runs.label[:-1]
    start = np.flatnonzero(first)
    stop = np.append(start[1:], len(first))
    several = stop - start > 1
    return list(zip(start[several].tolist(), stop[several].tolist(), strict=True))


def group_sums(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the values of each group, rounded once; values of a negative group are ignored.

    Parameters
    ----------
    group : int64 array, (N,)
    values : float64 array, (N,)
    groups : int
        Number of groups.

    Returns
    -------
    float64 array, (groups,)
    """
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(groups + 1)).tolist()
    ordered = values[order].tolist()
    return np.array([math.fsum(ordered[a:b]) for a, b in pairwise(bounds)], np.float64)


def _exceeds(lengths: np.ndarray, nodes: np.ndarray, rule: MergeRule, tau: float) -> bool:
    """Whether several skeletons share a segment by more than the tolerance."""
    if rule == "nodes":
        return int(np.sort(nodes)[-2]) >= tau
    if rule == "length":
        return math.fsum(np.sort(lengths)[:-1]) > tau
    counts: list[int] = nodes.tolist()
    pairs = (sum(counts) ** 2 - sum(n * n for n in counts)) // 2
    return pairs > tau


def _run_roots(forest: SkeletonForest, labels: np.ndarray) -> np.ndarray:
    """For each node the node nearest to the root in the same connected run, int64 (N,)."""
    same = (forest.parent >= 0) & (labels == labels[forest.parent])
    above = np.where(same, forest.parent, np.arange(len(labels)))
    while True:
        further = above[above]
        if np.array_equal(further, above):
            return above
        above = further
