"""Objects found: precision, recall, F1, average precision and panoptic quality by overlap.

A truth object is found by a segment if their intersection over union (IoU) reaches a threshold.
Above one half no object can have two such partners, so pairs are judged one by one, wherever they
are, and counts of disjoint parts of the table of overlaps add up to those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.metrics.detections.matching import best_pairs, rates
from volflow.metrics.voxels.overlaps import tally

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
COLUMNS = ("truth", "segment", "count", "truth_size", "segment_size")
LOW_BITS = 26  # an IoU in units of 2**-53 is told in two parts, so that sums fit int64

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Pairs of truth object and segment that reach each threshold; add parts with `+`.

    IoUs are summed as integers, in units of 2**-53: exact for every double of at least one half,
    so that no order of addition changes the sum.

    Attributes
    ----------
    threshold : float64 array, (T,)
    matched : int64 array, (T,)
        How many pairs there are.
    high, low : int64 array, (T,)
        Sum of their IoUs: (high * 2**26 + low) / 2**53.
    """

    threshold: np.ndarray
    matched: np.ndarray
    high: np.ndarray
    low: np.ndarray

    def __add__(self, other: Matches) -> Matches:
        if not np.array_equal(self.threshold, other.threshold):
            raise ValueError(
                f"matches of thresholds {self.threshold.tolist()} and {other.threshold.tolist()} "
                "cannot be added"
            )
        return Matches(
            self.threshold,
            self.matched + other.matched,
            self.high + other.high,
            self.low + other.low,
        )

    @property
    def iou(self) -> list[float]:
        """The sum of the pairs' IoUs at each threshold, rounded once."""
        parts = zip(self.high.tolist(), self.low.tolist(), strict=True)
        return [((high << LOW_BITS) + low) / 2**53 for high, low in parts]

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name, one row per threshold; `Matches(**record)` reads them back."""
        return {name: getattr(self, name) for name in ("threshold", "matched", "high", "low")}


def sized(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of overlaps with the sizes of both labels, from all rows of a volume.

    Parameters
    ----------
    truth, segment : uint64 array, (N,)
        Labels of a pair, each pair once. Rows with label 0 on one side are needed for the size
        of the other.
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


def matches(
    rows: Rows,
    thresholds: Sequence[float] = THRESHOLDS,
    min_truth: int = 1,
    min_segment: int = 1,
) -> Matches:
    """How many pairs of a table of overlaps reach each threshold of at least one half.

    A pair is a match at threshold t if its IoU is at least t and more than one half: an object
    cut into two equal halves is found by neither of them.

    Parameters
    ----------
    rows : columns truth, segment (uint64), count, truth_size, segment_size (int64), each (N,)
        Pairs of labels that share voxels, each pair once, with the sizes in voxels of both in
        the whole volume. Rows of label 0 are nobody's and not looked at. No columns: no rows.
    thresholds : sequence of float in [0.5, 1], ascending
        Rounded to nine digits, so that 0.6000000000000001 is 0.6.
    min_truth, min_segment : int
        Objects of fewer voxels do not exist, neither as something to find nor as something found.

    Raises
    ------
    ValueError
        If thresholds are none, not ascending or outside of [0.5, 1], or the columns do not fit.

    References
    ----------
    Kirillov et al., Panoptic Segmentation, CVPR 2019: uniqueness of matches above one half.
    """
    at = _ascending(thresholds)
    if at[0] < 0.5:
        raise ValueError(
            f"thresholds below 0.5 let an object match twice, and {at[0]:g} is asked for: "
            "`assigned` chooses among such matches, on the table of the whole volume"
        )
    iou = _candidates(rows, min_truth, min_segment)[2]
    iou = iou[iou > 0.5]
    return _matches(at, [iou[iou >= threshold] for threshold in at])


def assigned(
    rows: Rows,
    thresholds: Sequence[float] = THRESHOLDS,
    min_truth: int = 1,
    min_segment: int = 1,
) -> Matches:
    """As `matches`, but for any threshold above 0, each object given to one partner at most.

    At each threshold as many objects as possible are matched, and among such choices the one of
    the largest sum of IoUs is taken. That depends on all pairs at once: the rows must be those of
    the whole volume, and what comes out of parts must not be added. Below one half IoUs are
    summed to within 2**-54 each.

    References
    ----------
    The choice that StarDist makes (Weigert et al., WACV 2020; Schmidt et al., MICCAI 2018).
    """
    at = _ascending(thresholds)
    truth, segment, iou = _candidates(rows, min_truth, min_segment)
    most = min(len(np.unique(truth)), len(np.unique(segment)))
    found = []
    for threshold in at:
        enough = np.flatnonzero(iou >= threshold)
        gain = 1 + iou[enough] / (2 * max(1, most))  # all IoUs together weigh less than one match
        found.append(iou[enough][best_pairs(truth[enough], segment[enough], gain)])
    return _matches(at, found)


def object_scores(found: Matches, truths: int, segments: int) -> dict[str, Any]:
    """Every score by name, ready for JSON: lists with one entry per threshold, None for 0 / 0.

    Parameters
    ----------
    found : Matches
    truths, segments : int
        How many objects there are on either side.

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
        If more are matched than there are.
    """
    columns: dict[str, list[float | int | None]] = {}
    for matched, iou in zip(found.matched.tolist(), found.iou, strict=True):
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
        "thresholds": found.threshold.tolist(),
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
    """`object_scores` of two arrays of labels; label 0 is background in both.

    Parameters
    ----------
    truth, segmentation : integer or bool array, same shape
        Labels, none of them negative.
    thresholds : sequence of float in [0.5, 1], ascending
    mask : bool array, same shape, optional
        False where voxels count for nothing: where nobody looked for objects, say.
    min_truth, min_segment : int
        Objects of fewer voxels do not exist.
    """
    if truth.shape != segmentation.shape or (mask is not None and mask.shape != truth.shape):
        given = {"truth": truth, "segmentation": segmentation, "mask": mask}
        shapes = ", ".join(f"{n} {array.shape}" for n, array in given.items() if array is not None)
        raise ValueError(f"arrays to compare must have one shape; got {shapes}")
    flat = (1, 1, truth.size)  # places do not matter here
    where = None if mask is None else mask.reshape(flat)
    met = tally(truth.reshape(flat), segmentation.reshape(flat), where, unlabelled=True)
    rows = sized(met.truth, met.segment, met.count)
    return object_scores(
        matches(rows, thresholds, min_truth, min_segment),
        _objects(rows["truth"], rows["truth_size"], min_truth),
        _objects(rows["segment"], rows["segment_size"], min_segment),
    )


def total(parts: Iterable[Matches]) -> Matches:
    """The sum of at least one part."""
    first, *others = parts
    for part in others:
        first = first + part
    return first


def _objects(labels: np.ndarray, sizes: np.ndarray, least: int) -> int:
    return len(np.unique(labels[(labels != 0) & (sizes >= least)]))


def _ascending(thresholds: Sequence[float]) -> np.ndarray:
    """Thresholds as an array without the dust of decimal fractions."""
    at = np.round(np.asarray(thresholds, np.float64), 9)
    if at.ndim != 1 or not len(at) or not (at > 0).all() or not (at <= 1).all():
        raise ValueError(f"thresholds must be numbers above 0 and up to 1; got {thresholds}")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"thresholds must be ascending; got {thresholds}")
    return at


def _candidates(
    rows: Rows, min_truth: int, min_segment: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and IoU of the pairs of objects that are large enough."""
    if not rows:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0)
    lengths = {name: len(rows[name]) for name in COLUMNS if name in rows}
    if len(lengths) < len(COLUMNS) or len(set(lengths.values())) > 1:
        raise ValueError(f"overlaps need columns {', '.join(COLUMNS)} of one length; got {lengths}")
    truth, segment, count, truth_size, segment_size = (rows[name] for name in COLUMNS)
    known = (truth != 0) & (segment != 0)
    known &= (truth_size >= min_truth) & (segment_size >= min_segment)
    count, truth_size, segment_size = count[known], truth_size[known], segment_size[known]
    wrong = (count < 1) | (count > truth_size) | (count > segment_size)
    if wrong.any():
        row = np.flatnonzero(known)[np.argmax(wrong)]
        raise ValueError(
            f"truth {truth[row]} of {rows['truth_size'][row]} voxels and segment {segment[row]} of "
            f"{rows['segment_size'][row]} cannot share {rows['count'][row]}"
        )
    return truth[known], segment[known], count / (truth_size + segment_size - count)


def _matches(thresholds: np.ndarray, found: Sequence[np.ndarray]) -> Matches:
    """The counts and sums of the IoUs matched at each threshold."""
    units = [np.rint(np.ldexp(iou, 53)).astype(np.int64) for iou in found]
    return Matches(
        thresholds,
        np.array([len(iou) for iou in found], np.int64),
        np.array([(unit >> LOW_BITS).sum() for unit in units], np.int64),
        np.array([(unit & ((1 << LOW_BITS) - 1)).sum() for unit in units], np.int64),
    )
