"""Voxel metrics: contingency tables, variation of information, adapted Rand error.

The table of a block is small, tables of blocks add up, and every number stays an exact integer
until the last division, so a score does not depend on how the volume was divided into blocks.

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

import numpy as np

from volflow.metrics.voxels.overlaps import count_overlaps

Pairs = Literal["distinct", "all"]


@dataclass(frozen=True, slots=True)
class Contingency:
    """Number of voxels of each pair of a truth label and a segment, sorted by pair.

    Attributes
    ----------
    truth, segment : uint64 array, (N,)
        Labels of the pair; `truth` is never 0, `segment` may be 0.
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
    """The contingency table of the voxels within a mask whose truth label is not 0.

    Parameters
    ----------
    truth, segmentation : integer or bool array, same shape
        Labels, none of them negative. Segment 0 counts like any other.
    mask : bool array, same shape, optional
        False where a voxel does not count.

    Returns
    -------
    Contingency

    Raises
    ------
    ValueError
        If shapes differ, or labels are not integers or negative.
    """
    if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
        given = {"truth": truth, "segmentation": segmentation, "mask": mask}
        shapes = ", ".join(f"{n} {array.shape}" for n, array in given.items() if array is not None)
        raise ValueError(f"expected arrays of one shape; got {shapes}")
    flat = (1, 1, truth.size)  # positions do not matter here
    inside = None if mask is None else mask.reshape(flat)
    rows = count_overlaps(truth.reshape(flat), segmentation.reshape(flat), inside)
    return Contingency(rows.truth, rows.segment, rows.count)


def add_tables(tables: Iterable[Contingency]) -> Contingency:
    """The table of all voxels counted in several tables, such as those of blocks."""
    parts = list(tables)
    none = np.zeros(0, np.uint64)
    return _sorted(
        np.concatenate([none, *(table.truth for table in parts)]),
        np.concatenate([none, *(table.segment for table in parts)]),
        np.concatenate([none.astype(np.int64), *(table.count for table in parts)]),
    )


class SizeHistogram(NamedTuple):
    """A histogram of group sizes: all that VI and ARAND depend on.

    A group is the voxels of a pair of labels, of a truth label, or of a segment.

    Attributes
    ----------
    size, times : int64 array, (N,)
        Sizes in voxels, ascending, and the number of groups of each size.
    """

    size: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> SizeHistogram:
        """The histogram of groups with these voxel counts."""
        return cls(*np.unique(counts, return_counts=True))

    @classmethod
    def merged(cls, parts: Iterable[SizeHistogram]) -> SizeHistogram:
        """The histogram of the groups of several parts, none of which is in two of them."""
        histograms = list(parts)
        none = np.zeros(0, np.int64)
        sizes = np.concatenate([none, *(part.size for part in histograms)])
        size, at = np.unique(sizes, return_inverse=True)
        times = np.zeros(len(size), np.int64)
        np.add.at(times, at, np.concatenate([none, *(part.times for part in histograms)]))
        return cls(size, times)

    @property
    def number(self) -> int:
        """Number of groups."""
        return int(self.times.sum())

    def at_least(self, voxels: int) -> int:
        """Number of groups of that many voxels or more."""
        return int(self.times[self.size >= voxels].sum())

    @property
    def voxels(self) -> int:
        """Number of voxels in all groups."""
        return int((self.size * self.times).sum())

    def information(self) -> float:
        """Sum of n log2 n over all groups."""
        return math.fsum(times * n * math.log2(n) for n, times in self._each())

    def pairs(self, pairs: Pairs) -> int:
        """Number of voxel pairs within groups, as an exact integer: n^2 soon exceeds 64 bits."""
        if pairs not in ("distinct", "all"):
            raise ValueError(f"pairs: expected 'distinct' or 'all'; got {pairs!r}")
        less = 1 if pairs == "distinct" else 0
        return sum(times * n * (n - less) for n, times in self._each())

    def _each(self) -> Iterable[tuple[int, int]]:
        return zip(self.size.tolist(), self.times.tolist(), strict=True)


class GroupSizes(NamedTuple):
    """Size histograms of overlapping pairs, of truth labels and of segments."""

    joint: SizeHistogram
    truth: SizeHistogram
    segment: SizeHistogram


def group_sizes(table: Contingency) -> GroupSizes:
    """The size histograms of a table."""
    return GroupSizes(
        SizeHistogram.of(table.count),
        SizeHistogram.of(_marginal(table.truth, table.count)),
        SizeHistogram.of(_marginal(table.segment, table.count)),
    )


def variation_of_information(table: Contingency | GroupSizes) -> Information:
    """Conditional entropies of segments given truth (`split`) and truth given segments (`merge`).

    Returns
    -------
    Information
        `split` and `merge` in bits, 0 or more; their sum is the variation of information.

    Raises
    ------
    ValueError
        If no voxel was counted.

    References
    ----------
    Meila, Comparing clusterings: an information based distance, J. Multivariate Analysis 2007.
    """
    sizes = _nonempty_sizes(table)
    voxels, joint = sizes.joint.voxels, sizes.joint.information()
    split = (sizes.truth.information() - joint) / voxels
    merge = (sizes.segment.information() - joint) / voxels
    return Information(max(0.0, split), max(0.0, merge))


def adapted_rand(table: Contingency | GroupSizes, pairs: Pairs = "distinct") -> AdaptedRand:
    """Adapted Rand error: 1 minus the F-score of voxel pairs with one label in both.

    Parameters
    ----------
    table : Contingency or Groups
    pairs : {"distinct", "all"}
        Whether a voxel is paired with itself: n (n - 1) or n^2 pairs among n voxels. Precision
        and recall without any pair are 1.

    Returns
    -------
    AdaptedRand
        `arand`, `precision` and `recall`, each from 0 to 1.

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
    together, truths, segments = (sizes.pairs(pairs) for sizes in _nonempty_sizes(table))
    precision = together / segments if segments else 1.0
    recall = together / truths if truths else 1.0
    # 2 P R / (P + R), in integers until the last division
    fscore = 2 * together / (segments + truths) if segments + truths else 1.0
    return AdaptedRand(1.0 - fscore, precision, recall)


def scores(table: Contingency | GroupSizes) -> dict[str, float | int | None]:
    """All scores of a table by name, as JSON; None if no voxel was counted.

    Returns
    -------
    dict
        `vi`, `vi_split`, `vi_merge` in bits; `arand`, `precision`, `recall`, and the same with
        `_all_pairs` where each voxel is paired with itself, too; the numbers of `voxels`,
        `truth_labels` and `segments`.
    """
    names = ["vi_split", "vi_merge", "vi", "arand", "precision", "recall"]
    names += ["arand_all_pairs", "precision_all_pairs", "recall_all_pairs"]
    values: list[float | None] = [None] * len(names)
    sizes = group_sizes(table) if isinstance(table, Contingency) else table
    if sizes.joint.number:
        split, merge = variation_of_information(sizes)
        values = [split, merge, split + merge, *adapted_rand(sizes), *adapted_rand(sizes, "all")]
    return {
        **dict(zip(names, values, strict=True)),
        "voxels": sizes.joint.voxels,
        "truth_labels": sizes.truth.number,
        "segments": sizes.segment.number,
    }


def _nonempty_sizes(table: Contingency | GroupSizes) -> GroupSizes:
    """The size histograms of a table, which must contain at least one voxel."""
    sizes = group_sizes(table) if isinstance(table, Contingency) else table
    if not sizes.joint.number:
        raise ValueError("nothing to score: no voxel has a truth label other than 0")
    return sizes


def _sorted(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> Contingency:
    """The table with its pairs sorted, each of them once."""
    order = np.lexsort((segment, truth))
    truth, segment, count = truth[order], segment[order], count[order]
    first = np.ones(len(count), bool)
    first[1:] = (truth[1:] != truth[:-1]) | (segment[1:] != segment[:-1])
    starts = np.flatnonzero(first)
    total = np.add.reduceat(count, starts) if len(starts) else count
    return Contingency(truth[starts], segment[starts], total)


def _marginal(labels: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Voxels per label, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if not len(count):
        return count
    return np.add.reduceat(count[order], starts)
