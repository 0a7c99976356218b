"""Scores of detected synaptic clefts: by distances of voxels, and cleft by cleft.

voxels      distance of each detected voxel to the nearest true one, and the reverse
distance    clefts matched one to one by the distance of their centres
overlap     clefts matched one to one by the voxels they share
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from volflow.core.geometry import Resolution
from volflow.metrics.detections.matching import Matching, best_pairs
from volflow.metrics.detections.partners import check_distance, positions
from volflow.metrics.voxels.overlaps import count_overlaps

CLEFT_DISTANCE = 200.0  # nm, the default in CREMI's evaluation code


@dataclass(frozen=True, slots=True, eq=False)
class Clefts:
    """Clefts as objects.

    Attributes
    ----------
    label : uint64 array, (N,), ascending
    position : float64 array, (N, 3)
        Centre of mass, z, y, x in nanometres; that of one voxel is (index + 1/2) x resolution.
    size : int64 array, (N,)
        Number of voxels.
    """

    label: np.ndarray
    position: np.ndarray
    size: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", positions("clefts", self.position))
        lengths = {len(self.label), len(self.position), len(self.size)}
        if len(lengths) > 1 or (np.diff(self.label.astype(np.uint64)) == 0).any():
            raise ValueError(
                f"clefts: expected different labels, each with a position and a size; got "
                f"{len(self.label)} labels, {len(self.position)} positions and {len(self.size)} "
                f"sizes"
            )
        if (self.label[1:] < self.label[:-1]).any():
            raise ValueError("clefts: expected labels in ascending order")

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls, rows: Mapping[str, np.ndarray], resolution: Resolution, min_size: int = 1
    ) -> Clefts:
        """The clefts of at least `min_size` voxels, from counts and sums of coordinates.

        Parameters
        ----------
        rows : columns label (uint64), count, z, y, x (int64), each (N,)
            Rows of the same label, such as those of several blocks, are added. Label 0 is no
            cleft.
        resolution : three floats, zyx, nm
        min_size : int
            Smallest number of voxels of a cleft.
        """
        label, at = np.unique(rows["label"], return_inverse=True)
        sums = np.zeros((4, len(label)), np.int64)
        for total, name in zip(sums, ("count", "z", "y", "x"), strict=True):
            np.add.at(total, at, rows[name])
        large = (label != 0) & (sums[0] >= max(1, min_size))
        count, *along = sums[:, large]
        centre = np.stack([total / count + 0.5 for total in along], axis=1)
        return cls(label[large], centre * _scale(resolution), count)


def voxel_scores(
    truth: np.ndarray, detected: np.ndarray, distance: float = CLEFT_DISTANCE
) -> dict[str, float | int | None]:
    """Distances between true and detected cleft voxels, regardless of their clefts.

    Parameters
    ----------
    truth, detected : float array, (N, 3) and (M, 3)
        Positions of all cleft voxels, z, y, x in nanometres.
    distance : float
        Greatest distance of a correct voxel, in nanometres, above 0.

    Returns
    -------
    dict
        `adgt`, mean distance of detected voxels to the nearest true one, `adf`, mean distance of
        true voxels to the nearest detected one, and `cremi`, the mean of both (nm; None if one
        side has no voxel); `false_positives` and `false_negatives`, numbers of voxels farther
        away than `distance`; `precision` and `recall`, the shares of detected and of true voxels
        that are within it, and their `f1`. `truth_voxels` and `found_voxels` are the numbers of
        true and detected voxels.

    References
    ----------
    The CREMI challenge, synaptic cleft detection (cremi.org/metrics).
    """
    check_distance(distance)
    truth, detected = positions("truth", truth), positions("detected", detected)
    to_truth, to_detected = _nearest(detected, truth), _nearest(truth, detected)
    beyond = int((to_truth > distance).sum()), int((to_detected > distance).sum())
    precision = 1 - beyond[0] / len(detected) if len(detected) else None
    recall = 1 - beyond[1] / len(truth) if len(truth) else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    elif len(truth) + len(detected):
        f1 = 0.0
    known = bool(len(truth) and len(detected))
    adgt, adf = (float(to_truth.mean()), float(to_detected.mean())) if known else (None, None)
    return {
        "truth_voxels": len(truth),
        "found_voxels": len(detected),
        "adgt": adgt,
        "adf": adf,
        "cremi": None if adgt is None or adf is None else (adgt + adf) / 2,
        "false_positives": beyond[0],
        "false_negatives": beyond[1],
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def match_by_distance(
    truth: Clefts, detected: Clefts, distance: float = CLEFT_DISTANCE
) -> Matching:
    """Match clefts one to one whose centres are within a distance.

    The matching minimises the sum of distances, with 2 x `distance` for every cleft without a
    match on the side that has more.

    Parameters
    ----------
    truth, detected : Clefts
    distance : float
        Greatest distance of two centres, in nanometres, above 0.

    Returns
    -------
    Matching
        Its values are distances of centres in nanometres.
    """
    check_distance(distance)
    if not (len(truth) and len(detected)):
        none = np.zeros(0, np.int64)
        return Matching(none, none, np.zeros(0), len(truth), len(detected))
    near = KDTree(truth.position).sparse_distance_matrix(
        KDTree(detected.position), distance, output_type="ndarray"
    )
    order = np.lexsort((near["j"], near["i"]))
    first, second, apart = (near[name][order] for name in ("i", "j", "v"))
    chosen = best_pairs(first, second, 2 * distance * (1 + 1e-9) - apart)
    return Matching(first[chosen], second[chosen], apart[chosen], len(truth), len(detected))


def match_by_overlap(
    truth: Clefts, detected: Clefts, rows: Mapping[str, np.ndarray], min_overlap: int = 1
) -> Matching:
    """Match clefts one to one that share voxels.

    As many as possible are matched, and of such matchings the one that shares most voxels is
    chosen. Clefts are only a few voxels thick, so one shared voxel is a better criterion than an
    intersection over union.

    Parameters
    ----------
    truth, detected : Clefts
    rows : columns truth, segment (uint64) and count (int64), each (N,)
        Pairs of labels that share voxels, each pair once; rows of other labels are ignored.
    min_overlap : int
        Smallest number of voxels that a pair shares.

    Returns
    -------
    Matching
        Its values are voxels shared.
    """
    shared = rows["count"] >= max(1, min_overlap)
    shared &= np.isin(rows["truth"], truth.label) & np.isin(rows["segment"], detected.label)
    first = np.searchsorted(truth.label, rows["truth"][shared])
    second = np.searchsorted(detected.label, rows["segment"][shared])
    count = rows["count"][shared]
    gain = 1 + count / (2 * max(1, int(count.sum())))  # all voxels weigh less than one match
    chosen = best_pairs(first, second, gain)
    value = count[chosen].astype(np.float64)
    return Matching(first[chosen], second[chosen], value, len(truth), len(detected))


def cleft_scores(
    truth: np.ndarray,
    detected: np.ndarray,
    resolution: Resolution,
    distance: float = CLEFT_DISTANCE,
    min_size: int = 1,
) -> dict[str, dict[str, float | int | None]]:
    """All scores of an array of detected clefts against a ground truth.

    Parameters
    ----------
    truth, detected : integer array, (Z, Y, X), same shape
        Labels of clefts, 0 elsewhere.
    resolution : three floats, zyx, nm
    distance : float
        Greatest distance of a match, of voxels and of centres, in nanometres.
    min_size : int
        Smaller clefts are ignored on both sides, in voxels; their voxels count in `voxels`.

    Returns
    -------
    dict
        `voxels` (see `voxel_scores`), `distance` and `overlap` (precision, recall and F1 of the
        clefts matched by `match_by_distance` and `match_by_overlap`), as JSON.

    Raises
    ------
    ValueError
        If shapes differ, labels are not integers, or a parameter is out of range.
    """
    if truth.ndim != 3:
        raise ValueError(f"clefts: expected the three axes zyx; got shape {truth.shape}")
    rows = count_overlaps(truth, detected, unlabelled=True).record()
    true_clefts, detected_clefts = (
        Clefts.of({**rows, "label": rows[name]}, resolution, min_size)
        for name in ("truth", "segment")
    )
    scale = _scale(resolution)
    voxels = [(np.argwhere(labels) + 0.5) * scale for labels in (truth, detected)]
    return {
        "voxels": voxel_scores(voxels[0], voxels[1], distance),
        "distance": match_by_distance(true_clefts, detected_clefts, distance).scores(),
        "overlap": match_by_overlap(true_clefts, detected_clefts, rows).scores(),
    }


def cleft_errors(
    truth: Clefts, detected: Clefts, matching: Matching, most: int = 20
) -> dict[str, list[dict[str, Any]]]:
    """The largest missed and false clefts with their positions, as JSON.

    Parameters
    ----------
    truth, detected : Clefts
    matching : Matching
        Of these clefts.
    most : int
        Number of clefts of each kind.

    Returns
    -------
    dict
        `false_negatives` and `false_positives`: label, voxels and position (z, y, x in nm).
    """
    errors = {}
    sides = (
        ("false_negatives", truth, matching.missed),
        ("false_positives", detected, matching.spurious),
    )
    for name, clefts, rows in sides:
        largest = rows[np.lexsort((clefts.label[rows], -clefts.size[rows]))][:most]
        errors[name] = [
            {
                "label": int(clefts.label[row]),
                "voxels": int(clefts.size[row]),
                "position": clefts.position[row].tolist(),
            }
            for row in largest
        ]
    return errors


def _scale(resolution: Resolution) -> np.ndarray:
    scale = np.asarray(resolution, np.float64)
    if scale.shape != (3,) or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"resolution: expected three numbers above 0, zyx in nm; got {resolution}")
    return scale


def _nearest(given: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distance of each position to the nearest of others; infinite if there are none."""
    if not len(others):
        return np.full(len(given), np.inf)
    if not len(given):
        return np.zeros(0)
    distance: np.ndarray = KDTree(others).query(given)[0]
    return distance
