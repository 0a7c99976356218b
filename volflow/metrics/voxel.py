"""Voxel metrics: contingency tables, variation of information, adapted Rand error.

A table of a block is small, tables of blocks add up, and every number stays an exact integer
until the last division, so a score does not depend on how the volume was cut into blocks.

    truth         1 1 1 1 2 2 2 2        truth  segment  count
    segmentation  1 1 2 2 3 3 3 3   ->     1       1       2
                                           1       2       2
                                           2       3       4
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numba
import numpy as np

Pairs = Literal["distinct", "all"]

FIRST_CAPACITY = 1 << 12  # slots of the first hash table; it doubles when half full


@dataclass(frozen=True, slots=True)
class Contingency:
    """How many voxels carry each pair of a truth label and a segment, sorted by that pair.

    Attributes
    ----------
    truth, segment : uint64 array, (N,)
        Labels of the pair; `truth` is never 0, `segment` may be.
    count : int64 array, (N,)
        Voxels of the pair, at least 1.
    """

    truth: np.ndarray
    segment: np.ndarray
    count: np.ndarray

    @property
    def voxels(self) -> int:
        """Number of voxels counted."""
        return int(self.count.sum())


class Information(NamedTuple):
    """Variation of information in bits: `split` grows with splits, `merge` with mergers."""

    split: float
    merge: float


class AdaptedRand(NamedTuple):
    """Adapted Rand error; `precision` falls with mergers, `recall` with splits."""

    arand: float
    precision: float
    recall: float


def contingency(
    truth: np.ndarray, segmentation: np.ndarray, mask: np.ndarray | None = None
) -> Contingency:
    """The table of all voxels that have a truth label other than 0 and lie in the mask.

    Parameters
    ----------
    truth, segmentation : integer or bool array, same shape
        Labels, none of them negative. Segment 0 is counted like any other.
    mask : bool array, same shape, optional
        False where a voxel is not to be counted.

    Returns
    -------
    Contingency

    Raises
    ------
    ValueError
        If shapes differ, or an array holds no integers or a negative one.
    """
    arrays = {"truth": truth, "segmentation": segmentation}
    if mask is not None:
        arrays["mask"] = mask
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"arrays to compare must have one shape; got {shapes}")
    inside = np.ones(0, bool) if mask is None else np.ascontiguousarray(mask, dtype=bool).ravel()
    a, b, n = _count(_unsigned("truth", truth), _unsigned("segmentation", segmentation), inside)
    return _sorted(a, b, n)


def add(tables: Iterable[Contingency]) -> Contingency:
    """The table of all voxels that the given tables count."""
    found = list(tables)
    none = np.zeros(0, np.uint64)
    return _sorted(
        np.concatenate([none, *(table.truth for table in found)]),
        np.concatenate([none, *(table.segment for table in found)]),
        np.concatenate([none.astype(np.int64), *(table.count for table in found)]),
    )


def variation_of_information(table: Contingency) -> Information:
    """Conditional entropies of segments given truth (`split`) and truth given segments (`merge`).

    Raises
    ------
    ValueError
        If no voxel was counted.

    References
    ----------
    Meila, Comparing clusterings: an information based distance, J. Multivariate Analysis 2007.
    """
    voxels = _voxels(table)
    joint = _information(table.count)
    split = (_information(_marginal(table.truth, table.count)) - joint) / voxels
    merge = (_information(_marginal(table.segment, table.count)) - joint) / voxels
    return Information(max(0.0, split), max(0.0, merge))


def adapted_rand(table: Contingency, pairs: Pairs = "distinct") -> AdaptedRand:
    """One minus the F-score of pairs of voxels found together in truth and segmentation.

    Parameters
    ----------
    table : Contingency
    pairs : {"distinct", "all"}
        Whether a voxel makes a pair with itself: n (n - 1) or n^2 pairs among n voxels. Without
        any pair to find or to lose, precision and recall are 1.

    Raises
    ------
    ValueError
        If no voxel was counted.

    References
    ----------
    Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
    connectomics, Frontiers in Neuroanatomy 2015 (`all`). scikit-image counts distinct pairs and
    returns precision and recall in the other order.
    """
    _voxels(table)
    together = _pairs(table.count, pairs)
    segments = _pairs(_marginal(table.segment, table.count), pairs)
    truths = _pairs(_marginal(table.truth, table.count), pairs)
    precision = together / segments if segments else 1.0
    recall = together / truths if truths else 1.0
    # 2 P R / (P + R) of the two quotients, in integers until the last division
    fscore = 2 * together / (segments + truths) if segments + truths else 1.0
    return AdaptedRand(1.0 - fscore, precision, recall)


def scores(table: Contingency) -> dict[str, float | int | None]:
    """Every score of a table by name, ready for JSON; None where no voxel was counted."""
    names = ["vi_split", "vi_merge", "vi", "arand", "precision", "recall"]
    names += ["arand_all_pairs", "precision_all_pairs", "recall_all_pairs"]
    values: list[float | None] = [None] * len(names)
    if len(table.count):
        split, merge = variation_of_information(table)
        values = [split, merge, split + merge, *adapted_rand(table), *adapted_rand(table, "all")]
    return {
        **dict(zip(names, values, strict=True)),
        "voxels": table.voxels,
        "truth_labels": len(np.unique(table.truth)),
        "segments": len(np.unique(table.segment)),
    }


def _unsigned(name: str, labels: np.ndarray) -> np.ndarray:
    """Flat labels as uint32 or uint64; few types, so that few kernels are compiled."""
    if labels.dtype.kind not in "buil":
        raise ValueError(f"{name} must hold integer labels; got {labels.dtype}")
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(f"{name} holds the negative label {labels.min()}")
    wide = np.uint64 if labels.dtype.itemsize > 4 else np.uint32
    return np.ascontiguousarray(labels.astype(wide, copy=False)).ravel()


@numba.njit(cache=True, nogil=True)
def _slot(
    keys_a: np.ndarray, keys_b: np.ndarray, counts: np.ndarray, a: np.uint64, b: np.uint64
) -> np.int64:
    """Where the pair stands in the open-addressing table, or where it would."""
    last = np.uint64(len(counts) - 1)
    mixed = (a * np.uint64(0x9E3779B97F4A7C15)) ^ (b * np.uint64(0xC2B2AE3D27D4EB4F))
    slot = (mixed ^ (mixed >> np.uint64(29))) & last
    while counts[slot] and (keys_a[slot] != a or keys_b[slot] != b):
        slot = (slot + np.uint64(1)) & last
    return np.int64(slot)


@numba.njit(cache=True, nogil=True)
def _count(
    truth: np.ndarray, segment: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels per pair, unsorted; runs of one pair are counted before the table is asked."""
    capacity = FIRST_CAPACITY
    keys_a = np.zeros(capacity, np.uint64)
    keys_b = np.zeros(capacity, np.uint64)
    counts = np.zeros(capacity, np.int64)
    used = 0
    start, size = 0, len(truth)
    while start < size:
        a, b = truth[start], segment[start]
        stop = start + 1
        while stop < size and truth[stop] == a and segment[stop] == b:
            stop += 1
        run = stop - start
        if len(inside):
            run = 0
            for voxel in range(start, stop):
                run += inside[voxel]
        start = stop
        if a == 0 or run == 0:
            continue
        slot = _slot(keys_a, keys_b, counts, np.uint64(a), np.uint64(b))
        if counts[slot] == 0:
            keys_a[slot], keys_b[slot] = a, b
            used += 1
        counts[slot] += run
        if 2 * used > capacity:
            capacity *= 2
            old_a, old_b, old_counts = keys_a, keys_b, counts
            keys_a = np.zeros(capacity, np.uint64)
            keys_b = np.zeros(capacity, np.uint64)
            counts = np.zeros(capacity, np.int64)
            for old in range(len(old_counts)):
                if old_counts[old]:
                    slot = _slot(keys_a, keys_b, counts, old_a[old], old_b[old])
                    keys_a[slot], keys_b[slot] = old_a[old], old_b[old]
                    counts[slot] = old_counts[old]
    filled = np.nonzero(counts)[0]
    return keys_a[filled], keys_b[filled], counts[filled]


def _sorted(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> Contingency:
    """The table with its pairs in order and each of them once."""
    order = np.lexsort((segment, truth))
    truth, segment, count = truth[order], segment[order], count[order]
    first = np.ones(len(count), bool)
    first[1:] = (truth[1:] != truth[:-1]) | (segment[1:] != segment[:-1])
    starts = np.flatnonzero(first)
    total = np.add.reduceat(count, starts) if len(starts) else count
    return Contingency(truth[starts], segment[starts], total)


def _voxels(table: Contingency) -> int:
    """Number of voxels counted, at least one."""
    if not len(table.count):
        raise ValueError("nothing to score: no voxel has a truth label other than 0")
    return table.voxels


def _marginal(labels: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Voxels per label, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return np.add.reduceat(count[order], starts)


def _sizes(counts: np.ndarray) -> list[tuple[int, int]]:
    """Each size that occurs, and how often: what is summed over it cannot depend on labels."""
    sizes, times = np.unique(counts, return_counts=True)
    return list(zip(sizes.tolist(), times.tolist(), strict=True))


def _information(counts: np.ndarray) -> float:
    """Sum of n log2 n."""
    return math.fsum(times * n * math.log2(n) for n, times in _sizes(counts))


def _pairs(counts: np.ndarray, pairs: Pairs) -> int:
    """Pairs of voxels within groups of these sizes, exactly: n^2 soon leaves 64 bits."""
    if pairs not in ("distinct", "all"):
        raise ValueError(f"pairs is 'distinct' or 'all'; got {pairs!r}")
    less = 1 if pairs == "distinct" else 0
    return sum(times * n * (n - less) for n, times in _sizes(counts))
