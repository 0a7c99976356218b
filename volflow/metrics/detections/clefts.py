"""Synaptic clefts found: by how far voxels are from one another, and cleft by cleft.

voxels      how far each found voxel is from the truth, and each of the truth from what is found
distance    clefts one to one, their centres near to one another
overlap     clefts one to one, sharing voxels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from volflow.metrics.detections.matching import Detection, best_pairs
from volflow.metrics.detections.partners import check_distance, positions
from volflow.metrics.voxels.overlaps import tally

CLEFT_DISTANCE = 200.0  # nm, the default of CREMI's evaluation code

Resolution = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Clefts:
    """Clefts as objects.

    Attributes
    ----------
    label : uint64 array, (N,), ascending
    position : float64 array, (N, 3)
        Centre of mass, z, y, x in nanometres; a voxel's own is at (index + 1/2) x resolution.
    size : int64 array, (N,)
        Voxels.
    """

    label: np.ndarray
    position: np.ndarray
    size: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", positions("clefts", self.position))
        lengths = {len(self.label), len(self.position), len(self.size)}
        if len(lengths) > 1 or (np.diff(self.label.astype(np.uint64)) == 0).any():
            raise ValueError(
                f"clefts need a label each, all different, a position and a size; got "
                f"{len(self.label)}, {len(self.position)} and {len(self.size)}"
            )
        if (self.label[1:] < self.label[:-1]).any():
            raise ValueError("clefts must be in ascending order of their labels")

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, rows: Mapping[str, np.ndarray], resolution: Resolution, least: int = 1) -> Clefts:
        """The clefts of at least so many voxels, from counts and sums of coordinates.

        Parameters
        ----------
        rows : columns label (uint64), count, z, y, x (int64), each (N,)
            Several rows of one label, as from several blocks, are added. Label 0 is no cleft.
        resolution : three floats, zyx, nm
        least : int
            Voxels that a cleft has at the least.
        """
        label, at = np.unique(rows["label"], return_inverse=True)
        sums = np.zeros((4, len(label)), np.int64)
        for total, name in zip(sums, ("count", "z", "y", "x"), strict=True):
            np.add.at(total, at, rows[name])
        kept = (label != 0) & (sums[0] >= max(1, least))
        count, *along = sums[:, kept]
        centre = np.stack([total / count + 0.5 for total in along], axis=1)
        return cls(label[kept], centre * _scale(resolution), count)


def voxel_scores(
    truth: np.ndarray, found: np.ndarray, distance: float = CLEFT_DISTANCE
) -> dict[str, float | int | None]:
    """How far cleft voxels are from one another, whichever cleft they belong to.

    Parameters
    ----------
    truth, found : float array, (N, 3) and (M, 3)
        Positions of all cleft voxels, z, y, x in nanometres.
    distance : float
        Within which a voxel counts as right, in nanometres, above 0.

    Returns
    -------
    dict
        `adgt`, mean distance of found voxels to the nearest of the truth, `adf`, mean distance of
        the truth's to the nearest found, and `cremi`, the mean of the two (nm; None where one
        side has no voxel); `false_positives` and `false_negatives`, voxels further away than
        `distance`; `precision` and `recall`, the share of found and of truth voxels that are
        not, and their `f1`.

    References
    ----------
    The CREMI challenge, synaptic cleft detection (cremi.org/metrics).
    """
    check_distance(distance)
    truth, found = positions("truth", truth), positions("found", found)
    to_truth, to_found = _nearest(found, truth), _nearest(truth, found)
    beyond = int((to_truth > distance).sum()), int((to_found > distance).sum())
    precision = 1 - beyond[0] / len(found) if len(found) else None
    recall = 1 - beyond[1] / len(truth) if len(truth) else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    elif len(truth) + len(found):
        f1 = 0.0
    known = bool(len(truth) and len(found))
    adgt, adf = (float(to_truth.mean()), float(to_found.mean())) if known else (None, None)
    return {
        "truth_voxels": len(truth),
        "found_voxels": len(found),
        "adgt": adgt,
        "adf": adf,
        "cremi": None if adgt is None or adf is None else (adgt + adf) / 2,
        "false_positives": beyond[0],
        "false_negatives": beyond[1],
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def match_by_distance(truth: Clefts, found: Clefts, distance: float = CLEFT_DISTANCE) -> Detection:
    """Which clefts are found by one whose centre is within a distance, each by one at most.

    The sum of distances is the least there is, with 2 x `distance` for every cleft (of the side
    that has more) without a partner.

    Returns
    -------
    Detection
        Its values are distances of centres in nanometres.
    """
    check_distance(distance)
    if not (len(truth) and len(found)):
        none = np.zeros(0, np.int64)
        return Detection(none, none, np.zeros(0), len(truth), len(found))
    near = KDTree(truth.position).sparse_distance_matrix(
        KDTree(found.position), distance, output_type="ndarray"
    )
    order = np.lexsort((near["j"], near["i"]))
    first, second, apart = (near[name][order] for name in ("i", "j", "v"))
    chosen = best_pairs(first, second, 2 * distance * (1 + 1e-9) - apart)
    return Detection(first[chosen], second[chosen], apart[chosen], len(truth), len(found))


def match_by_overlap(
    truth: Clefts, found: Clefts, rows: Mapping[str, np.ndarray], least: int = 1
) -> Detection:
    """Which clefts are found by one that shares voxels with them, each by one at most.

    As many as possible are matched, and among such choices those that share most voxels. Clefts
    are a few voxels thin, so a shared voxel says more than an intersection over union would.

    Parameters
    ----------
    truth, found : Clefts
    rows : columns truth, segment (uint64) and count (int64), each (N,)
        Pairs of labels that share voxels, each pair once; of others than these clefts, too.
    least : int
        Voxels that a pair shares at the least.

    Returns
    -------
    Detection
        Its values are voxels shared.
    """
    shared = rows["count"] >= max(1, least)
    shared &= np.isin(rows["truth"], truth.label) & np.isin(rows["segment"], found.label)
    first = np.searchsorted(truth.label, rows["truth"][shared])
    second = np.searchsorted(found.label, rows["segment"][shared])
    count = rows["count"][shared]
    gain = 1 + count / (2 * max(1, int(count.sum())))  # all voxels weigh less than one match
    chosen = best_pairs(first, second, gain)
    value = count[chosen].astype(np.float64)
    return Detection(first[chosen], second[chosen], value, len(truth), len(found))


def cleft_scores(
    truth: np.ndarray,
    found: np.ndarray,
    resolution: Resolution,
    distance: float = CLEFT_DISTANCE,
    min_size: int = 1,
) -> dict[str, dict[str, float | int | None]]:
    """Every score of two arrays of cleft labels: `voxels`, `distance` and `overlap`.

    Parameters
    ----------
    truth, found : integer array, (Z, Y, X), same shape
        Labels of clefts, 0 elsewhere.
    resolution : three floats, zyx, nm
    distance : float
        For voxels and for centres, in nanometres.
    min_size : int
        Clefts of fewer voxels, of either side, do not exist; as voxels they count.
    """
    if truth.ndim != 3:
        raise ValueError(f"clefts must have the three axes zyx; got shape {truth.shape}")
    met = tally(truth, found, unlabelled=True).record()
    sides = {"truth": met | {"label": met["truth"]}, "found": met | {"label": met["segment"]}}
    clefts = {name: Clefts.of(rows, resolution, min_size) for name, rows in sides.items()}
    scale = _scale(resolution)
    voxels = [(np.argwhere(labels) + 0.5) * scale for labels in (truth, found)]
    return {
        "voxels": voxel_scores(voxels[0], voxels[1], distance),
        "distance": match_by_distance(clefts["truth"], clefts["found"], distance).scores(),
        "overlap": match_by_overlap(clefts["truth"], clefts["found"], met).scores(),
    }


def cleft_errors(
    truth: Clefts, found: Clefts, detection: Detection, most: int = 20
) -> dict[str, list[dict[str, Any]]]:
    """The largest missed and spurious clefts with their places, ready for JSON.

    Returns
    -------
    dict
        `false_negatives` and `false_positives`: label, voxels and position (z, y, x in nm).
    """
    told = {}
    sides = (
        ("false_negatives", truth, detection.missed),
        ("false_positives", found, detection.spurious),
    )
    for name, clefts, rows in sides:
        largest = rows[np.lexsort((clefts.label[rows], -clefts.size[rows]))][:most]
        told[name] = [
            {
                "label": int(clefts.label[row]),
                "voxels": int(clefts.size[row]),
                "position": clefts.position[row].tolist(),
            }
            for row in largest
        ]
    return told


def _scale(resolution: Resolution) -> np.ndarray:
    scale = np.asarray(resolution, np.float64)
    if scale.shape != (3,) or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"resolution must be three numbers of nm above 0, zyx; got {resolution}")
    return scale


def _nearest(given: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The distance of each position to the nearest of the others; infinite if there are none."""
    if not len(others):
        return np.full(len(given), np.inf)
    if not len(given):
        return np.zeros(0)
    distance: np.ndarray = KDTree(others).query(given)[0]
    return distance
