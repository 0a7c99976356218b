"""Scores of detected objects: precision, recall, F1, average precision, panoptic quality.

A segment matches a true object if their intersection over union (IoU) reaches a threshold. Above
one half no object can have two matches, so every pair is independent of the others, and counts of
disjoint parts of the table of overlaps add up to those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.metrics.detections.matching import best_pairs, rates
from volflow.metrics.voxels.overlaps import count_overlaps

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
COLUMNS = ("truth", "segment", "count", "truth_size", "segment_size")
LOW_BITS = 26  # an IoU in units of 2**-53 is stored in two parts, so that sums fit int64

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class MatchCounts:
    """Number and IoUs of the matches at each threshold; `+` adds those of two parts.

    IoUs are summed as integers, in units of 2**-53. That is exact for every double of one half or
    more, so the sum does not depend on the order of addition.

    Attributes
    ----------
    threshold : float64 array, (T,)
    matched : int64 array, (T,)
        Number of matches.
    high, low : int64 array, (T,)
        Sum of their IoUs: (high * 2**26 + low) / 2**53.
    """

    threshold: np.ndarray
    matched: np.ndarray
    high: np.ndarray
    low: np.ndarray

    def __add__(self, other: MatchCounts) -> MatchCounts:
        if not np.array_equal(self.threshold, other.threshold):
            raise ValueError(
                f"expected matches at the thresholds {self.threshold.tolist()}; got those at "
                f"{other.threshold.tolist()}"
            )
        return MatchCounts(
            self.threshold,
            self.matched + other.matched,
            self.high + other.high,
            self.low + other.low,
        )

    @property
    def iou(self) -> list[float]:
        """The sum of the IoUs of the matches at each threshold, rounded once."""
        parts = zip(self.high.tolist(), self.low.tolist(), strict=True)
        return [((high << LOW_BITS) + low) / 2**53 for high, low in parts]

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name, one row per threshold; `Matches(**record)` reads them back."""
        return {name: getattr(self, name) for name in ("threshold", "matched", "high", "low")}


def with_sizes(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of overlaps with the sizes of both labels, from all rows of a volume.

    Parameters
    ----------
    truth, segment : uint64 array, (N,)
        Labels of a pair, each pair once, with the rows in which one of them is 0, because they
        contribute to the size of the other.
    count : int64 array, (N,)
        Voxels of the pair.

    Returns
    -------
    columns
        Those of `COLUMNS`, (N,).
    """
    sizes = []
    for labels in (truth, segment):
        at = np.unique(labels, return_inverse=True)[1]
        size = np.zeros(len(labels), np.int64)
        np.add.at(size, at, count)
        sizes.append(size[at])
    return dict(zip(COLUMNS, (truth, segment, count, *sizes), strict=True))


def count_matches(
    rows: Rows,
    thresholds: Sequence[float] = THRESHOLDS,
    min_truth: int = 1,
    min_segment: int = 1,
) -> MatchCounts:
    """Count the matches in a table of overlaps at each threshold of one half or more.

    A pair is a match at threshold t if its IoU is at least t and greater than one half: an object
    that is cut into two equal halves matches neither of them.

    Parameters
    ----------
    rows : columns truth, segment (uint64), count, truth_size, segment_size (int64), each (N,)
        Pairs of labels that share voxels, each pair once, with the sizes of both in the whole
        volume, in voxels. Rows with label 0 are ignored. No columns mean no rows.
    thresholds : sequence of float in [0.5, 1], ascending
        Rounded to nine digits, so that 0.6000000000000001 is 0.6.
    min_truth, min_segment : int
        Smaller objects are ignored, in voxels.

    Raises
    ------
    ValueError
        If thresholds are missing, not ascending or outside of [0.5, 1], or columns differ in
        length.

    References
    ----------
    Kirillov et al., Panoptic Segmentation, CVPR 2019: uniqueness of matches above one half.
    """
    at = _ascending(thresholds)
    if at[0] < 0.5:
        raise ValueError(
            f"thresholds: expected 0.5 or more, got {at[0]:g}; below 0.5 an object may match "
            "twice: `assigned` chooses among such matches, on the table of the whole volume"
        )
    iou = _candidates(rows, min_truth, min_segment)[2]
    iou = iou[iou > 0.5]
    return _match_counts(at, [iou[iou >= threshold] for threshold in at])


def assigned(
    rows: Rows,
    thresholds: Sequence[float] = THRESHOLDS,
    min_truth: int = 1,
    min_segment: int = 1,
) -> MatchCounts:
    """Like `count_matches`, for any threshold above 0, with a one-to-one assignment.

    At each threshold as many objects as possible are matched, and of such assignments the one with
    the largest sum of IoUs is chosen. It depends on all pairs at once: the rows must be those of
    the whole volume, and results of parts must not be added. IoUs below one half are summed to
    within 2**-54 each.

    References
    ----------
    The assignment of StarDist (Weigert et al., WACV 2020; Schmidt et al., MICCAI 2018).
    """
    at = _ascending(thresholds)
    truth, segment, iou = _candidates(rows, min_truth, min_segment)
    most = min(len(np.unique(truth)), len(np.unique(segment)))
    chosen = []
    for threshold in at:
        enough = np.flatnonzero(iou >= threshold)
        gain = 1 + iou[enough] / (2 * max(1, most))  # all IoUs together weigh less than one match
        chosen.append(iou[enough][best_pairs(truth[enough], segment[enough], gain)])
    return _match_counts(at, chosen)


def object_scores(matches: MatchCounts, truths: int, segments: int) -> dict[str, Any]:
    """All scores by name, as JSON: lists with one entry per threshold, None for 0 / 0.

    Parameters
    ----------
    matches : MatchCounts
    truths, segments : int
        Numbers of true objects and of segments.

    Returns
    -------
    dict
        `precision` TP / (TP + FP), `recall` TP / (TP + FN), `f1`, `ap` TP / (TP + FP + FN) (what
        StarDist and Cellpose call average precision; no area under a curve), `mean_iou` of the
        matched pairs, `panoptic_quality` sum of IoUs / (TP + FP / 2 + FN / 2), and `mean_ap` over
        the thresholds.

    Raises
    ------
    ValueError
        If there are more matches than objects.
    """
    columns: dict[str, list[float | int | None]] = {}
    for matched, iou in zip(matches.matched.tolist(), matches.iou, strict=True):
        either = truths + segments - matched
        both = truths + segments
        entry = rates(matched, truths, segments)
        entry["ap"] = matched / either if either else None
        entry["mean_iou"] = iou / matched if matched else None
        entry["panoptic_quality"] = 2 * iou / both if both else None
        for name, value in entry.items():
            columns.setdefault(name, []).append(value)
    ap = [value for value in columns["ap"] if value is not None]
    return {
        "truths": truths,
        "segments": segments,
        "thresholds": matches.threshold.tolist(),
        **columns,
        "mean_ap": sum(ap) / len(ap) if ap else None,
    }


def score_objects(
    truth: np.ndarray,
    segmentation: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    mask: np.ndarray | None = None,
    min_truth: int = 1,
    min_segment: int = 1,
) -> dict[str, Any]:
    """Scores of the objects in two arrays of labels; label 0 is background in both.

    Parameters
    ----------
    truth, segmentation : integer or bool array, same shape
        Labels, none of them negative.
    thresholds : sequence of float in [0.5, 1], ascending
    mask : bool array, same shape, optional
        False where voxels do not count, for example outside the annotated region.
    min_truth, min_segment : int
        Smaller objects are ignored, in voxels.

    Returns
    -------
    dict
        See `object_scores`.

    Raises
    ------
    ValueError
        If shapes differ, labels are not integers or negative, or thresholds are out of range.
    """
    if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
        given = {"truth": truth, "segmentation": segmentation, "mask": mask}
        shapes = ", ".join(f"{n} {array.shape}" for n, array in given.items() if array is not None)
        raise ValueError(f"expected arrays of one shape; got {shapes}")
    flat = (1, 1, truth.size)  # positions do not matter here
    where = None if mask is None else mask.reshape(flat)
    overlaps = count_overlaps(
        truth.reshape(flat), segmentation.reshape(flat), where, unlabelled=True
    )
    rows = with_sizes(overlaps.truth, overlaps.segment, overlaps.count)
    return object_scores(
        count_matches(rows, thresholds, min_truth, min_segment),
        _count_objects(rows["truth"], rows["truth_size"], min_truth),
        _count_objects(rows["segment"], rows["segment_size"], min_segment),
    )


def sum_matches(parts: Iterable[MatchCounts]) -> MatchCounts:
    """The sum of one part or more."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def _count_objects(labels: np.ndarray, sizes: np.ndarray, min_size: int) -> int:
    return len(np.unique(labels[(labels != 0) & (sizes >= min_size)]))


def _ascending(thresholds: Sequence[float]) -> np.ndarray:
    """Thresholds as an array, without the rounding errors of decimal fractions."""
    at = np.round(np.asarray(thresholds, np.float64), 9)
    if at.ndim != 1 or not len(at) or not (at > 0).all() or not (at <= 1).all():
        raise ValueError(f"thresholds: expected numbers above 0 and up to 1; got {thresholds}")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"thresholds: expected ascending numbers; got {thresholds}")
    return at


def _candidates(
    rows: Rows, min_truth: int, min_segment: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and IoU of the pairs of objects that are large enough."""
    if not rows:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0)
    lengths = {name: len(rows[name]) for name in COLUMNS if name in rows}
    if len(lengths) < len(COLUMNS) or len(set(lengths.values())) > 1:
        raise ValueError(
            f"overlaps: expected the columns {', '.join(COLUMNS)} of one length; got {lengths}"
        )
    truth, segment, count, truth_size, segment_size = (rows[name] for name in COLUMNS)
    known = (truth != 0) & (segment != 0)
    known &= (truth_size >= min_truth) & (segment_size >= min_segment)
    count, truth_size, segment_size = count[known], truth_size[known], segment_size[known]
    wrong = (count < 1) | (count > truth_size) | (count > segment_size)
    if wrong.any():
        row = np.flatnonzero(known)[np.argmax(wrong)]
        raise ValueError(
            f"truth {truth[row]} of {rows['truth_size'][row]} voxels and segment {segment[row]} of "
            f"{rows['segment_size'][row]} voxels cannot share {rows['count'][row]}"
        )
    return truth[known], segment[known], count / (truth_size + segment_size - count)


def _match_counts(thresholds: np.ndarray, matched: Sequence[np.ndarray]) -> MatchCounts:
    """Counts and sums of the matched IoUs at each threshold."""
    units = [np.rint(np.ldexp(iou, 53)).astype(np.int64) for iou in matched]
    return MatchCounts(
        thresholds,
        np.array([len(iou) for iou in matched], np.int64),
        np.array([(unit >> LOW_BITS).sum() for unit in units], np.int64),
        np.array([(unit & ((1 << LOW_BITS) - 1)).sum() for unit in units], np.int64),
    )
