"""bERL: run lengths with a penalty for splits at mitochondria and none tolerated at synapses.

A split next to a mitochondrion, where the neurite is wide and clearly visible, costs more than one
in a thin twig. A merger that assigns a synapse to the wrong neurite is never tolerated.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np

from volflow.metrics.skeletons.forest import SkeletonForest, node_labels
from volflow.metrics.skeletons.run_length import RunLengths, shared_rows

Charge = Literal["literal", "both"]
Veto = Literal["minority", "any"]


def default_epsilon(forest: SkeletonForest) -> float:
    """Twice the median edge length in nanometres, 0 without edges."""
    return 2 * float(np.median(forest.lengths)) if len(forest.lengths) else 0.0


def charge_splits(
    runs: RunLengths,
    forest: SkeletonForest,
    label: np.ndarray,
    mito: np.ndarray,
    *,
    epsilon: float,
    charge: Charge = "literal",
) -> RunLengths:
    """Runs that are shortened for every split at a mitochondrion, but never below 0.

    Parameters
    ----------
    runs : RunLengths
        Of this forest and these labels, not of connected runs.
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background.
    mito : bool array, (N,)
        Nodes at a mitochondrion.
    epsilon : float
        Nanometres subtracted from a run for each edge that leads to another segment.
    charge : {"literal", "both"}
        Whether only the segment with the mitochondrion's node pays, or both segments.

    Raises
    ------
    ValueError
        If lengths differ, epsilon is negative or the charge is unknown.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (9). As printed, a run can become negative, and its square
    a reward; here it is at least 0.
    """
    if charge not in get_args(Charge):
        raise ValueError(f"charge: expected one of {', '.join(get_args(Charge))}; got {charge!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon: expected 0 nm or more; got {epsilon}")
    if runs.connected:
        raise ValueError("runs: expected runs per segment, got connected runs")
    _check_flags(forest, mito, "mitochondria")
    labels = node_labels(forest, label)
    ends, at = labels[forest.edges], mito[forest.edges]
    split = (ends[:, 0] != ends[:, 1]) & (ends != 0).all(axis=1)
    pays = at if charge == "literal" else np.broadcast_to(at.any(axis=1)[:, None], at.shape)
    node = forest.edges[pays & split[:, None]]
    times = np.zeros(len(runs.label), np.int64)
    np.add.at(times, runs.find_rows(forest.skeleton[node], labels[node]), 1)
    return dataclasses.replace(runs, length=np.maximum(0.0, runs.length - epsilon * times))


def vetoed_labels(
    runs: RunLengths,
    forest: SkeletonForest,
    label: np.ndarray,
    synapse: np.ndarray,
    *,
    veto: Veto = "minority",
) -> np.ndarray:
    """Segments shared by several skeletons with a merged node at a synapse.

    Parameters
    ----------
    runs : RunLengths
        Of this forest and these labels, not of connected runs.
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background.
    synapse : bool array, (N,)
        Nodes at a synapse.
    veto : {"minority", "any"}
        Whether the merged nodes are those of all skeletons except the one with the longest run in
        the segment (of equal runs, the one with most nodes; none is exempt if these are equal,
        too), or the nodes of all skeletons.

    Returns
    -------
    uint64 array, ascending

    Raises
    ------
    ValueError
        If lengths differ or the veto is unknown.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (10). Its set contains pairs of all nodes, which is "any":
    one synapse anywhere on a neurite then makes every stray node of another one a merger.
    """
    if veto not in get_args(Veto):
        raise ValueError(f"veto: expected one of {', '.join(get_args(Veto))}; got {veto!r}")
    _check_flags(forest, synapse, "synapses")
    labels = node_labels(forest, label)
    cube_range = np.zeros(len(runs.label), bool)
    node = np.flatnonzero(synapse & (labels != 0))
    cube_range[runs.find_rows(forest.skeleton[node], labels[node])] = True
    vetoed = []
    for start, stop in shared_rows(runs):
        merged = cube_range[start:stop].copy()
        if veto == "minority":
            sizes = list(zip(runs.length[start:stop], runs.nodes[start:stop], strict=True))
            most = max(sizes)
            if sizes.count(most) == 1:
                merged[sizes.index(most)] = False
        if merged.any():
            vetoed.append(runs.label[start])
    return np.array(vetoed, np.uint64)


def _check_flags(forest: SkeletonForest, flags: np.ndarray, what: str) -> None:
    """Raise unless there is one boolean per node."""
    if flags.shape != (len(forest),) or flags.dtype != bool:
        raise ValueError(
            f"{what}: expected {len(forest)} booleans, one per node; got {flags.dtype} "
            f"{flags.shape}"
        )
