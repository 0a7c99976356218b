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

import numpy as np

from volflow.metrics.voxels.overlaps import tally

Pairs = Literal["distinct", "all"]


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
    if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
        given = {"truth": truth, "segmentation": segmentation, "mask": mask}
        shapes = ", ".join(f"{n} {array.shape}" for n, array in given.items() if array is not None)
        raise ValueError(f"arrays to compare must have one shape; got {shapes}")
    flat = (1, 1, truth.size)  # places do not matter here
    inside = None if mask is None else mask.reshape(flat)
    found = tally(truth.reshape(flat), segmentation.reshape(flat), inside)
    return Contingency(found.truth, found.segment, found.count)


def add(tables: Iterable[Contingency]) -> Contingency:
    """The table of all voxels that the given tables count."""
    found = list(tables)
    none = np.zeros(0, np.uint64)
    return _sorted(
        np.concatenate([none, *(table.truth for table in found)]),
        np.concatenate([none, *(table.segment for table in found)]),
        np.concatenate([none.astype(np.int64), *(table.count for table in found)]),
    )


class Sizes(NamedTuple):
    """Which sizes occur, and how often: all that a score needs to know of many groups.

    Attributes
    ----------
    size, times : int64 array, (N,)
        Voxels of a group, ascending, and the number of groups of that size.
    """

    size: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> Sizes:
        """The sizes of groups with these voxel counts."""
        return cls(*np.unique(counts, return_counts=True))

    @classmethod
    def merged(cls, parts: Iterable[Sizes]) -> Sizes:
        """The sizes of all groups of several parts."""
        found = list(parts)
        none = np.zeros(0, np.int64)
        size, at = np.unique(np.concatenate([none, *(p.size for p in found)]), return_inverse=True)
        times = np.zeros(len(size), np.int64)
        np.add.at(times, at, np.concatenate([none, *(p.times for p in found)]))
        return cls(size, times)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.times.sum())

    def at_least(self, voxels: int) -> int:
        """How many groups have that many voxels or more."""
        return int(self.times[self.size >= voxels].sum())

    @property
    def voxels(self) -> int:
        """How many voxels they have together."""
        return int((self.size * self.times).sum())

    def information(self) -> float:
        """Sum of n log2 n over all groups."""
        return math.fsum(times * n * math.log2(n) for n, times in self._each())

    def pairs(self, pairs: Pairs) -> int:
        """Pairs of voxels within groups, exactly: n^2 soon leaves 64 bits."""
        if pairs not in ("distinct", "all"):
            raise ValueError(f"pairs is 'distinct' or 'all'; got {pairs!r}")
        less = 1 if pairs == "distinct" else 0
        return sum(times * n * (n - less) for n, times in self._each())

    def _each(self) -> Iterable[tuple[int, int]]:
        return zip(self.size.tolist(), self.times.tolist(), strict=True)


class Groups(NamedTuple):
    """The sizes of pairs that meet, of truth labels and of segments."""

    joint: Sizes
    truth: Sizes
    segment: Sizes


def groups(table: Contingency) -> Groups:
    """The sizes in a table."""
    return Groups(
        Sizes.of(table.count),
        Sizes.of(_marginal(table.truth, table.count)),
        Sizes.of(_marginal(table.segment, table.count)),
    )


def variation_of_information(table: Contingency | Groups) -> Information:
    """Conditional entropies of segments given truth (`split`) and truth given segments (`merge`).

    Raises
    ------
    ValueError
        If no voxel was counted.

    References
    ----------
    Meila, Comparing clusterings: an information based distance, J. Multivariate Analysis 2007.
    """
    found = _counted(table)
    voxels, joint = found.joint.voxels, found.joint.information()
    split = (found.truth.information() - joint) / voxels
    merge = (found.segment.information() - joint) / voxels
    return Information(max(0.0, split), max(0.0, merge))


def adapted_rand(table: Contingency | Groups, pairs: Pairs = "distinct") -> AdaptedRand:
    """One minus the F-score of pairs of voxels found together in truth and segmentation.

    Parameters
    ----------
    table : Contingency or Groups
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
    found = _counted(table)
    together, truths, segments = (sizes.pairs(pairs) for sizes in found)
    precision = together / segments if segments else 1.0
    recall = together / truths if truths else 1.0
    # 2 P R / (P + R) of the two quotients, in integers until the last division
    fscore = 2 * together / (segments + truths) if segments + truths else 1.0
    return AdaptedRand(1.0 - fscore, precision, recall)


def scores(table: Contingency | Groups) -> dict[str, float | int | None]:
    """Every score of a table by name, ready for JSON; None where no voxel was counted."""
    names = ["vi_split", "vi_merge", "vi", "arand", "precision", "recall"]
    names += ["arand_all_pairs", "precision_all_pairs", "recall_all_pairs"]
    values: list[float | None] = [None] * len(names)
    found = groups(table) if isinstance(table, Contingency) else table
    if found.joint.groups:
        split, merge = variation_of_information(found)
        values = [split, merge, split + merge, *adapted_rand(found), *adapted_rand(found, "all")]
    return {
        **dict(zip(names, values, strict=True)),
        "voxels": found.joint.voxels,
        "truth_labels": found.truth.groups,
        "segments": found.segment.groups,
    }


def _counted(table: Contingency | Groups) -> Groups:
    """The sizes of a table that counts at least one voxel."""
    found = groups(table) if isinstance(table, Contingency) else table
    if not found.joint.groups:
        raise ValueError("nothing to score: no voxel has a truth label other than 0")
    return found


def _sorted(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> Contingency:
    """The table with its pairs in order and each of them once."""
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
