"""All scores of a segmentation against skeletons, as one JSON document."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.metrics.skeletons.berl import (
    Charge,
    Veto,
    charge_splits,
    default_epsilon,
    vetoed_labels,
)
from volflow.metrics.skeletons.errors import (
    Merge,
    Splits,
    merged_segments,
    omitted_edges,
    split_edges,
)
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei, edge_weights, normalise_weights
from volflow.metrics.skeletons.run_length import (
    ExpectedRunLength,
    MergeRule,
    RunLengths,
    expected_run_length,
    merged_labels,
    run_lengths,
)

TAU_NM = 2000.0  # nanometres of a merger that are tolerated


@dataclass(frozen=True, slots=True)
class SkeletonOptions:
    """Tolerances and penalties of the scores, and the number of errors to list.

    Attributes
    ----------
    rule : {"length", "nodes", "pairs"}
        The rule by which a shared segment is a merger in tERL, bERL and nERL, see
        `merged_labels`.
    tau : float
        Tolerance of the rule: nanometres, nodes or pairs.
    epsilon : float, optional
        Cost of a split at a mitochondrion in nanometres. Default: twice the median edge length.
    charge : {"literal", "both"}
        Whether the segment with the mitochondrion's node pays for it, or both.
    veto : {"minority", "any"}
        Which nodes at a synapse make a tolerated merger count, see `vetoed_labels`.
    d0 : float, optional
        Unit of distance in nERL, in nanometres. Default: the radius of each nucleus.
    worst : int
        Greatest number of splits, and of mergers, to list.
    """

    rule: MergeRule = "length"
    tau: float = TAU_NM
    epsilon: float | None = None
    charge: Charge = "literal"
    veto: Veto = "minority"
    d0: float | None = None
    worst: int = 100


def skeleton_scores(
    forest: SkeletonForest,
    label: np.ndarray,
    options: SkeletonOptions | None = None,
    *,
    mito: np.ndarray | None = None,
    synapse: np.ndarray | None = None,
    nuclei: Nuclei | None = None,
    forbidden: np.ndarray | None = None,
) -> dict[str, Any]:
    """All scores of a segmentation against skeletons, sorted by name; finite numbers or None.

    Parameters
    ----------
    forest : SkeletonForest
    label : integer array, (N,)
        The segment at each node, 0 for background and for nodes outside the volume.
    options : SkeletonOptions, optional
    mito, synapse : bool array, (N,), optional
        Nodes at a mitochondrion and at a synapse; bERL needs at least one of the two.
    nuclei : Nuclei, optional
        One per skeleton; nERL needs them, and radii of nodes.
    forbidden : integer array, (K,), optional
        Segments known to be mergers, in addition to those that the skeletons show.

    Returns
    -------
    dict
        `erl`, `terl`, `berl`, `nerl` and `nerl_norm` in nanometres, each with its `_max` (of a
        perfect segmentation) and `_ratio`; `not_computed`, the reason why a score is missing;
        counts and lengths; the tables `per_skeleton`, `worst_splits` and `worst_merges`; and the
        `parameters`.

    References
    ----------
    Januszewski et al., High-precision automated reconstruction of neurons with flood-filling
    networks, Nature Methods 2018 (ERL); Zhai et al., II-CATS, MIDL 2023 (tERL, bERL, nERL).
    """
    options = options or SkeletonOptions()
    runs = run_lengths(forest, label)
    classic = merged_labels(runs, "nodes", 0, forbidden)
    tolerant = merged_labels(runs, options.rule, options.tau, forbidden)
    epsilon = default_epsilon(forest) if options.epsilon is None else options.epsilon
    scores: dict[str, ExpectedRunLength] = {
        "erl": expected_run_length(runs, classic),
        "terl": expected_run_length(runs, tolerant),
    }
    missing: dict[str, str] = {}
    if mito is None and synapse is None:
        missing["berl"] = "neither mitochondria nor synapses were given"
    else:
        flags = np.zeros(len(forest), bool) if mito is None else mito
        shorter = charge_splits(runs, forest, label, flags, epsilon=epsilon, charge=options.charge)
        merged = tolerant
        if synapse is not None:
            vetoed = vetoed_labels(runs, forest, label, synapse, veto=options.veto)
            merged = np.union1d(merged, vetoed)
        scores["berl"] = expected_run_length(shorter, merged)
    weight, counted, reason = _weights(forest, nuclei, options.d0)
    if reason:
        missing["nerl"] = missing["nerl_norm"] = reason
    else:
        plain = run_lengths(forest, label, weight=weight)
        scores["nerl"] = expected_run_length(plain, tolerant, counted)
        scaled = run_lengths(forest, label, weight=normalise_weights(forest, weight))
        scores["nerl_norm"] = expected_run_length(scaled, tolerant, counted)
    table: dict[str, Any] = {}
    for name in ("erl", "terl", "berl", "nerl", "nerl_norm"):
        score = scores.get(name)
        table[name] = _finite(score.overall) if score else None
        table[f"{name}_max"] = _finite(score.maximum) if score else None
        table[f"{name}_ratio"] = _finite(score.ratio) if score else None
    table["parameters"] = {
        "charge": options.charge,
        "d0_nm": options.d0,
        "epsilon_nm": epsilon,
        "rule": options.rule,
        "tau": options.tau,
        "veto": options.veto,
    }
    table["not_computed"] = dict(sorted(missing.items()))
    table.update(_counts(forest, label, runs))
    splits = split_edges(forest, label, runs)
    shown = merged_segments(forest, label, runs, tolerant, worst=options.worst)
    table.update(merges=len(tolerant), merges_classic=len(classic), splits=len(splits.edge))
    table.update(worst_merges=[_merge(m) for m in shown])
    table.update(worst_splits=_splits(forest, splits, options.worst))
    table["per_skeleton"] = _per_skeleton(forest, label, runs, splits, scores)
    return dict(sorted(table.items()))


def _weights(
    forest: SkeletonForest, nuclei: Nuclei | None, d0: float | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """The weights of nERL and the skeletons that count, or the reason why there are none."""
    nothing = np.zeros(0)
    if nuclei is None or not nuclei.known.any():
        return nothing, nothing, "no nuclei were given"
    weight = edge_weights(forest, nuclei, d0)
    counted = np.zeros(len(forest.names), bool)
    counted[forest.skeleton[forest.edges[weight > 0, 0]]] = True
    if not counted.any():
        return nothing, nothing, "no skeleton with a nucleus has radii"
    return weight, counted, ""


def _counts(forest: SkeletonForest, label: np.ndarray, runs: RunLengths) -> dict[str, Any]:
    """Sizes of the skeletons and of their edges."""
    omitted = omitted_edges(forest, label)
    lengths = forest.lengths
    return {
        "background_nodes": int((np.asarray(label) == 0).sum()),
        "edges": len(lengths),
        "length_nm": math.fsum(runs.scale),
        "longest_edge_nm": float(lengths.max()) if len(lengths) else None,
        "median_edge_nm": float(np.median(lengths)) if len(lengths) else None,
        "nodes": len(forest),
        "omitted_edges": int(omitted.sum()),
        "omitted_length_nm": math.fsum(lengths[omitted]),
        "segments": len(np.unique(runs.label)),
        "skeletons": len(forest.names),
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


def _splits(forest: SkeletonForest, splits: Splits, worst: int) -> list[dict[str, Any]]:
    """The first splits as JSON."""
    return [
        {
            "labels": splits.labels[k].tolist(),
            "length_nm": float(splits.length[k]),
            "position_nm": splits.position[k].tolist(),
            "skeleton": forest.names[splits.skeleton[k]],
        }
        for k in range(min(worst, len(splits.edge)))
    ]


def _per_skeleton(
    forest: SkeletonForest,
    label: np.ndarray,
    runs: RunLengths,
    splits: Splits,
    scores: dict[str, ExpectedRunLength],
) -> list[dict[str, Any]]:
    """One row per skeleton, sorted by name."""
    owner = forest.skeleton[forest.edges[:, 0]]
    size = len(forest.names)
    split_edges_of = np.bincount(splits.skeleton, minlength=size)
    omitted = np.bincount(owner[omitted_edges(forest, label)], minlength=size)
    segments = np.bincount(runs.skeleton, minlength=size)
    rows = []
    for number in sorted(range(size), key=forest.names.__getitem__):
        row: dict[str, Any] = {
            "length_nm": float(runs.scale[number]),
            "name": forest.names[number],
            "omitted_edges": int(omitted[number]),
            "segments": int(segments[number]),
            "splits": int(split_edges_of[number]),
        }
        row.update((name, _finite(score.skeletons[number])) for name, score in scores.items())
        rows.append(dict(sorted(row.items())))
    return rows


def _finite(number: float) -> float | None:
    """The number, or None if it is not finite."""
    return float(number) if math.isfinite(number) else None
