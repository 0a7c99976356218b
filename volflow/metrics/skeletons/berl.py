"""bERL: run lengths that are dearer at a mitochondrion and void at a synapse.

A split beside a mitochondrion, where the neurite is wide and plain to see, costs more than one in
a thin twig; a merger that puts a synapse onto the wrong neurite is never tolerated.
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


def default_epsilon(traced: SkeletonForest) -> float:
    """Twice the median edge length in nanometres, 0 without edges."""
    return 2 * float(np.median(traced.lengths)) if len(traced.lengths) else 0.0


def charged(
    runs: RunLengths,
    traced: SkeletonForest,
    label: np.ndarray,
    mito: np.ndarray,
    *,
    epsilon: float,
    charge: Charge = "literal",
) -> RunLengths:
    """The runs, shortened for every split at a mitochondrion, never below 0.

    Parameters
    ----------
    runs : RunLengths
        Of this forest and these labels, not connected ones.
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background.
    mito : bool array, (N,)
        Nodes at a mitochondrion.
    epsilon : float
        Nanometres taken off a run for each edge that leaves its segment for another one.
    charge : {"literal", "both"}
        Whether only the segment that holds the mitochondrion's node pays, or both.

    Raises
    ------
    ValueError
        If arrays do not fit, epsilon is negative or the charge is neither.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (9). As printed a run can become negative, which squared
    is a reward; here it ends at 0.
    """
    if charge not in get_args(Charge):
        raise ValueError(f"charge is one of {', '.join(get_args(Charge))}; got {charge!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be nanometres, not negative; got {epsilon}")
    if runs.connected:
        raise ValueError("runs to be charged must not be connected ones")
    _fits(traced, mito, "mitochondria")
    labels = node_labels(traced, label)
    ends, at = labels[traced.edges], mito[traced.edges]
    split = (ends[:, 0] != ends[:, 1]) & (ends != 0).all(axis=1)
    pays = at if charge == "literal" else np.broadcast_to(at.any(axis=1)[:, None], at.shape)
    node = traced.edges[pays & split[:, None]]
    times = np.zeros(len(runs.label), np.int64)
    np.add.at(times, runs.rows(traced.skeleton[node], labels[node]), 1)
    return dataclasses.replace(runs, length=np.maximum(0.0, runs.length - epsilon * times))


def vetoed_labels(
    runs: RunLengths,
    traced: SkeletonForest,
    label: np.ndarray,
    synapse: np.ndarray,
    *,
    veto: Veto = "minority",
) -> np.ndarray:
    """Segments shared by several skeletons whose merged nodes touch a synapse.

    Parameters
    ----------
    runs : RunLengths
        Of this forest and these labels, not connected ones.
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background.
    synapse : bool array, (N,)
        Nodes at a synapse.
    veto : {"minority", "any"}
        Whether merged nodes are those of all skeletons but the one that runs longest in the
        segment (then: has most nodes; where two are alike, nobody is spared), or all.

    Returns
    -------
    uint64 array, ascending

    Raises
    ------
    ValueError
        If arrays do not fit or the veto is neither.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023, eq. (10). Its set holds pairs of all nodes, which is "any": one
    synapse anywhere on a neurite then makes every stray node of another a merger.
    """
    if veto not in get_args(Veto):
        raise ValueError(f"veto is one of {', '.join(get_args(Veto))}; got {veto!r}")
    _fits(traced, synapse, "synapses")
    labels = node_labels(traced, label)
    touched = np.zeros(len(runs.label), bool)
    node = np.flatnonzero(synapse & (labels != 0))
    touched[runs.rows(traced.skeleton[node], labels[node])] = True
    found = []
    for start, stop in shared_rows(runs):
        merged = touched[start:stop].copy()
        if veto == "minority":
            sizes = list(zip(runs.length[start:stop], runs.nodes[start:stop], strict=True))
            most = max(sizes)
            if sizes.count(most) == 1:
                merged[sizes.index(most)] = False
        if merged.any():
            found.append(runs.label[start])
    return np.array(found, np.uint64)


def _fits(traced: SkeletonForest, flags: np.ndarray, what: str) -> None:
    """One flag to a node."""
    if flags.shape != (len(traced),) or flags.dtype != bool:
        raise ValueError(
            f"{len(traced)} nodes need a bool each for {what}; got {flags.dtype} {flags.shape}"
        )
