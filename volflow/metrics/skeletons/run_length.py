"""Expected run length: how far along a neurite one gets before the segmentation errs.

All skeletons lie in one flat forest. Its nodes carry the segment found there; the edges inside one
segment are that segment's run along a skeleton, and a run counts by its square.

    skeleton   o--o--o--o--o--o        ERL = (200^2 + 100^2) / 500 = 100 nm
    segment    1  1  1  2  2  0        edges of 100 nm; the one at 2|0 and at 1|2 belong to no run

Every sum is rounded once (`math.fsum`), so no score depends on the order of nodes, of skeletons or
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
    """How far each segment runs along each skeleton, sorted by label, then skeleton.

    Attributes
    ----------
    label : uint64 array, (P,)
        A segment; never 0, the background.
    skeleton : int64 array, (P,)
        A skeleton that has nodes in it.
    length : float64 array, (P,)
        Summed weights of the skeleton's edges with both nodes in the segment: nanometres, unless
        weights were given.
    nodes : int64 array, (P,)
        How many of the skeleton's nodes lie in the segment.
    total : float64 array, (S,)
        Summed weights of all edges of each skeleton: the run of a perfect segmentation.
    scale : float64 array, (S,)
        Length of each skeleton in nanometres, by which squared runs are divided.
    connected : bool
        Whether the rows are connected runs, several to a label and skeleton.
    """

    label: np.ndarray
    skeleton: np.ndarray
    length: np.ndarray
    nodes: np.ndarray
    total: np.ndarray
    scale: np.ndarray
    connected: bool = False

    def rows(self, skeleton: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Index of the row of each skeleton and label, int64 (K,); all of them must be there."""
        names, first = np.unique(self.label, return_index=True)
        # rows are sorted by both, so a label's rank and the skeleton make one ascending key
        rank = np.repeat(np.arange(len(names)), np.diff(np.append(first, len(self.label))))
        width = len(self.scale)
        wanted = np.searchsorted(names, label) * width + skeleton
        rows: np.ndarray = np.searchsorted(rank * width + self.skeleton, wanted)
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """An expected run length.

    Attributes
    ----------
    overall : float
        Of all skeletons together, in nanometres; NaN where no skeleton has a length.
    maximum : float
        The same for a segmentation without errors.
    skeletons : float64 array, (S,)
        Of each skeleton; NaN for one that has no length or was left out.
    """

    overall: float
    maximum: float
    skeletons: np.ndarray

    @property
    def ratio(self) -> float:
        """Overall as a share of the maximum, 1 for a segmentation without errors."""
        return self.overall / self.maximum if self.maximum > 0 else math.nan


def run_lengths(
    traced: SkeletonForest,
    label: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    connected: bool = False,
) -> RunLengths:
    """How far each segment runs along each skeleton.

    Parameters
    ----------
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background and for nodes outside the volume.
    weight : float array, (E,), optional
        What an edge counts, in place of its length.
    connected : bool
        Whether a segment that leaves a skeleton and comes back starts a new run. It does not by
        default, as in the formula.

    Raises
    ------
    ValueError
        If there is not one label to a node or one weight to an edge, or a label is no integer
        or negative.

    References
    ----------
    Januszewski et al., High-precision automated reconstruction of neurons with flood-filling
    networks, Nature Methods 2018; Zhai et al., II-CATS, MIDL 2023, eq. (4)-(7).
    """
    labels = node_labels(traced, label)
    weights = traced.lengths if weight is None else weight
    if weights.shape != traced.lengths.shape:
        raise ValueError(f"{len(traced.lengths)} edges need as many weights; got {weights.shape}")
    keys = [traced.skeleton, labels]
    if connected:
        keys.insert(0, _tops(traced, labels))
    order = np.lexsort(keys)
    order = order[np.searchsorted(labels[order], 1) :]  # without the background
    first = np.zeros(len(order), bool)
    first[:1] = True
    for key in keys:
        first[1:] |= key[order[1:]] != key[order[:-1]]
    rows = np.flatnonzero(first)
    row = np.full(len(labels), -1)
    row[order] = np.cumsum(first) - 1
    a, b = row[traced.edges].T
    return RunLengths(
        labels[order[rows]],
        traced.skeleton[order[rows]],
        sums(np.where(a == b, a, -1), weights, len(rows)),
        np.diff(np.append(rows, len(order))),
        sums(traced.skeleton[traced.edges[:, 0]], weights, len(traced.names)),
        sums(traced.skeleton[traced.edges[:, 0]], traced.lengths, len(traced.names)),
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
        Of lengths, not of weights.
    rule : {"nodes", "length", "pairs"}
        When a segment that has nodes of several skeletons is a merger: the second most of them has
        at least `tau` nodes in it; or all but the one that runs longest run more than `tau`
        nanometres together; or there are more than `tau` pairs of nodes of different skeletons.
        "nodes" with 0, the default, is the classic rule: any shared node.
    tau : float
        What is tolerated; not negative.
    forbidden : integer array, (K,), optional
        Segments known to be mergers, such as those that reach into another kind of cell.

    Returns
    -------
    uint64 array, ascending

    Raises
    ------
    ValueError
        If the rule or tau is not as above, or runs are connected ones.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (8): "pairs" is what it prints and "length" what its text
    describes. "nodes" is the threshold of AxonEM (Wei et al., MICCAI 2021).
    """
    if rule not in get_args(MergeRule):
        raise ValueError(f"the rule is one of {', '.join(get_args(MergeRule))}; got {rule!r}")
    if not tau >= 0:
        raise ValueError(f"tau must not be negative; got {tau}")
    if runs.connected:
        raise ValueError("mergers are found in runs that are not connected ones")
    known = np.unique(np.asarray([] if forbidden is None else forbidden).astype(np.uint64))
    found = [
        runs.label[start]
        for start, stop in shared_rows(runs)
        if _too_much(runs.length[start:stop], runs.nodes[start:stop], rule, tau)
    ]
    return np.union1d(np.array(found, np.uint64), known[known > 0])


def score(runs: RunLengths, merged: np.ndarray, counted: np.ndarray | None = None) -> Score:
    """The expected run length of these runs, those of merged segments taken as 0.

    Parameters
    ----------
    runs : RunLengths
    merged : uint64 array
        Segments that give no run to any skeleton.
    counted : bool array, (S,), optional
        False where a skeleton is left out; one without length always is.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (6), (7).
    """
    counted = (runs.scale > 0) & (True if counted is None else counted)
    squares = np.where(np.isin(runs.label, merged), 0.0, runs.length) ** 2
    each = sums(runs.skeleton, squares, len(runs.scale))
    skeletons = np.full(len(runs.scale), math.nan)
    skeletons[counted] = each[counted] / runs.scale[counted]
    length = math.fsum(runs.scale[counted])
    if not length:
        return Score(math.nan, math.nan, skeletons)
    runs_squared = math.fsum(squares[counted[runs.skeleton]])
    return Score(runs_squared / length, math.fsum(runs.total[counted] ** 2) / length, skeletons)


def erl(
    traced: SkeletonForest,
    label: np.ndarray,
    *,
    rule: MergeRule = "nodes",
    tau: float = 0.0,
    forbidden: np.ndarray | None = None,
    connected: bool = False,
) -> Score:
    """Expected run length, or tERL where `rule` and `tau` tolerate something.

    Parameters are those of `run_lengths` and `merged_labels`.
    """
    runs = run_lengths(traced, label)
    merged = merged_labels(runs, rule, tau, forbidden)
    return score(run_lengths(traced, label, connected=True) if connected else runs, merged)


def shared_rows(runs: RunLengths) -> list[tuple[int, int]]:
    """Where the rows of each label begin and end that several skeletons have nodes in."""
    first = np.ones(len(runs.label), bool)
    first[1:] = runs.label[1:] != runs.label[:-1]
    start = np.flatnonzero(first)
    stop = np.append(start[1:], len(first))
    several = stop - start > 1
    return list(zip(start[several].tolist(), stop[several].tolist(), strict=True))


def sums(group: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """Sum of the values of each group, rounded once; a negative group counts nowhere.

    Parameters
    ----------
    group : int64 array, (N,)
    values : float64 array, (N,)
    groups : int
        How many there are.

    Returns
    -------
    float64 array, (groups,)
    """
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(groups + 1)).tolist()
    ordered = values[order].tolist()
    return np.array([math.fsum(ordered[a:b]) for a, b in pairwise(bounds)], np.float64)


def _too_much(lengths: np.ndarray, nodes: np.ndarray, rule: MergeRule, tau: float) -> bool:
    """Whether several skeletons share a segment by more than is tolerated."""
    if rule == "nodes":
        return int(np.sort(nodes)[-2]) >= tau
    if rule == "length":
        return math.fsum(np.sort(lengths)[:-1]) > tau
    counts: list[int] = nodes.tolist()
    pairs = (sum(counts) ** 2 - sum(n * n for n in counts)) // 2
    return pairs > tau


def _tops(traced: SkeletonForest, labels: np.ndarray) -> np.ndarray:
    """The node nearest to the root that each is joined to within its segment, int64 (N,)."""
    same = (traced.parent >= 0) & (labels == labels[traced.parent])
    above = np.where(same, traced.parent, np.arange(len(labels)))
    while True:
        further = above[above]
        if np.array_equal(further, above):
            return above
        above = further
