"""Every score of a segmentation against skeletons, as one table ready for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.metrics.skeletons.berl import Charge, Veto, charged, default_epsilon, vetoed_labels
from volflow.metrics.skeletons.errors import Merge, Splits, merges, omitted_edges, split_edges
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei, edge_weights, normalised
from volflow.metrics.skeletons.run_length import (
    MergeRule,
    RunLengths,
    Score,
    merged_labels,
    run_lengths,
    score,
)

TAU_NM = 2000.0


@dataclass(frozen=True, slots=True)
class SkeletonOptions:
    """What is tolerated, what is charged and how much is told.

    Attributes
    ----------
    rule : {"length", "nodes", "pairs"}
        When a shared segment is a merger in tERL, bERL and nERL.
    tau : float
        Nanometres, nodes or pairs that the rule tolerates.
    epsilon : float, optional
        Nanometres that a split at a mitochondrion costs; by default twice the median edge length.
    charge : {"literal", "both"}
        Who pays for it: the segment that holds the mitochondrion's node, or both.
    veto : {"minority", "any"}
        Which nodes at a synapse make a tolerated merger one that counts.
    d0 : float, optional
        Nanometres, the unit of distance in nERL; by default the radius of each nucleus.
    worst : int
        How many splits and how many mergers are told one by one.
    """

    rule: MergeRule = "length"
    tau: float = TAU_NM
    epsilon: float | None = None
    charge: Charge = "literal"
    veto: Veto = "minority"
    d0: float | None = None
    worst: int = 100


def skeleton_scores(
    traced: SkeletonForest,
    label: np.ndarray,
    options: SkeletonOptions | None = None,
    *,
    mito: np.ndarray | None = None,
    synapse: np.ndarray | None = None,
    nuclei: Nuclei | None = None,
    forbidden: np.ndarray | None = None,
) -> dict[str, Any]:
    """All scores by name, in the order of names; numbers are finite or None.

    Parameters
    ----------
    traced : Traced
    label : integer array, (N,)
        The segment at each node, 0 for background and for nodes outside the volume.
    options : SkeletonOptions, optional
    mito, synapse : bool array, (N,), optional
        Nodes at a mitochondrion and at a synapse; bERL needs one of them.
    nuclei : Nuclei, optional
        One for each skeleton; nERL needs them, and radii.
    forbidden : integer array, (K,), optional
        Segments known to be mergers, beyond what the skeletons show.

    Returns
    -------
    dict
        Lengths in nanometres. `not_computed` says why a score is missing, `per_skeleton` and
        `worst_splits`, `worst_merges` hold a table each, `parameters` what was used.
    """
    options = options or SkeletonOptions()
    runs = run_lengths(traced, label)
    classic = merged_labels(runs, "nodes", 0, forbidden)
    tolerant = merged_labels(runs, options.rule, options.tau, forbidden)
    epsilon = default_epsilon(traced) if options.epsilon is None else options.epsilon
    found: dict[str, Score] = {"erl": score(runs, classic), "terl": score(runs, tolerant)}
    missing: dict[str, str] = {}
    if mito is None and synapse is None:
        missing["berl"] = "neither mitochondria nor synapses were given"
    else:
        flags = np.zeros(len(traced), bool) if mito is None else mito
        shorter = charged(runs, traced, label, flags, epsilon=epsilon, charge=options.charge)
        merged = tolerant
        if synapse is not None:
            vetoed = vetoed_labels(runs, traced, label, synapse, veto=options.veto)
            merged = np.union1d(merged, vetoed)
        found["berl"] = score(shorter, merged)
    weight, counted, reason = _weights(traced, nuclei, options.d0)
    if reason:
        missing["nerl"] = missing["nerl_norm"] = reason
    else:
        plain = run_lengths(traced, label, weight=weight)
        found["nerl"] = score(plain, tolerant, counted)
        scaled = run_lengths(traced, label, weight=normalised(traced, weight))
        found["nerl_norm"] = score(scaled, tolerant, counted)
    table: dict[str, Any] = {}
    for name in ("erl", "terl", "berl", "nerl", "nerl_norm"):
        kept = found.get(name)
        table[name] = _finite(kept.overall) if kept else None
        table[f"{name}_max"] = _finite(kept.maximum) if kept else None
        table[f"{name}_ratio"] = _finite(kept.ratio) if kept else None
    table["parameters"] = {
        "charge": options.charge,
        "d0_nm": options.d0,
        "epsilon_nm": epsilon,
        "rule": options.rule,
        "tau": options.tau,
        "veto": options.veto,
    }
    table["not_computed"] = dict(sorted(missing.items()))
    table.update(_counts(traced, label, runs))
    splits = split_edges(traced, label, runs)
    shown = merges(traced, label, runs, tolerant, worst=options.worst)
    table.update(merges=len(tolerant), merges_classic=len(classic), splits=len(splits.edge))
    table.update(worst_merges=[_merge(m) for m in shown])
    table.update(worst_splits=_splits(traced, splits, options.worst))
    table["per_skeleton"] = _each(traced, label, runs, splits, found)
    return dict(sorted(table.items()))


def _weights(
    traced: SkeletonForest, nuclei: Nuclei | None, d0: float | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """The weights of nERL, the skeletons that it counts, or why there are none."""
    nothing = np.zeros(0)
    if nuclei is None or not nuclei.known.any():
        return nothing, nothing, "no nuclei were given"
    weight = edge_weights(traced, nuclei, d0)
    counted = np.zeros(len(traced.names), bool)
    counted[traced.skeleton[traced.edges[weight > 0, 0]]] = True
    if not counted.any():
        return nothing, nothing, "no skeleton with a nucleus has radii"
    return weight, counted, ""


def _counts(traced: SkeletonForest, label: np.ndarray, runs: RunLengths) -> dict[str, Any]:
    """How much there is, and how finely it is traced."""
    omitted = omitted_edges(traced, label)
    lengths = traced.lengths
    return {
        "background_nodes": int((np.asarray(label) == 0).sum()),
        "edges": len(lengths),
        "length_nm": math.fsum(runs.scale),
        "longest_edge_nm": float(lengths.max()) if len(lengths) else None,
        "median_edge_nm": float(np.median(lengths)) if len(lengths) else None,
        "nodes": len(traced),
        "omitted_edges": int(omitted.sum()),
        "omitted_length_nm": math.fsum(lengths[omitted]),
        "segments": len(np.unique(runs.label)),
        "skeletons": len(traced.names),
        "skeletons_without_length": int((runs.scale == 0).sum()),
    }


def _merge(merge: Merge) -> dict[str, Any]:
    """A shared segment as JSON."""
    parts = [
        {
            "length_nm": part.length,
            "name": part.skeleton,
            "nodes": part.nodes,
            "position_nm": list(part.position),
        }
        for part in merge.parts
    ]
    return {
        "counted": merge.counted,
        "label": merge.label,
        "length_nm": merge.length,
        "skeletons": parts,
    }


def _splits(traced: SkeletonForest, splits: Splits, worst: int) -> list[dict[str, Any]]:
    """The first splits as JSON."""
    return [
        {
            "labels": splits.labels[k].tolist(),
            "length_nm": float(splits.length[k]),
            "position_nm": splits.position[k].tolist(),
            "skeleton": traced.names[splits.skeleton[k]],
        }
        for k in range(min(worst, len(splits.edge)))
    ]


def _each(
    traced: SkeletonForest,
    label: np.ndarray,
    runs: RunLengths,
    told: Splits,
    found: dict[str, Score],
) -> list[dict[str, Any]]:
    """One row for each skeleton, by name."""
    owner = traced.skeleton[traced.edges[:, 0]]
    size = len(traced.names)
    splits = np.bincount(told.skeleton, minlength=size)
    omitted = np.bincount(owner[omitted_edges(traced, label)], minlength=size)
    segments = np.bincount(runs.skeleton, minlength=size)
    rows = []
    for number in sorted(range(size), key=traced.names.__getitem__):
        row: dict[str, Any] = {
            "length_nm": float(runs.scale[number]),
            "name": traced.names[number],
            "omitted_edges": int(omitted[number]),
            "segments": int(segments[number]),
            "splits": int(splits[number]),
        }
        row.update((name, _finite(kept.skeletons[number])) for name, kept in found.items())
        rows.append(dict(sorted(row.items())))
    return rows


def _finite(number: float) -> float | None:
    """The number, or None where it is none."""
    return float(number) if math.isfinite(number) else None
