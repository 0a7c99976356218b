"""Scores of a tracker on held-out volumes: boxes of sections, and links between sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from volflow.models.detector.inference import BoxDetector
from volflow.track.detection.quasidense import (
    Association,
    Detections,
    Memory,
    associate,
    box_overlaps,
)
from volflow.train.data.samples import Source
from volflow.train.tracker.objects import Objects, objects_of

OVERLAP = 0.5  # of a detection with an object, to count


class Counts(NamedTuple):
    """Numbers of objects, detections and agreements; they add up over sections."""

    objects: int = 0
    detections: int = 0
    agreements: int = 0

    def plus(self, other: Counts) -> Counts:
        """The sums of two counts."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def recall(self) -> float:
        """Fraction of objects that were detected; 1 without objects."""
        return self.agreements / self.objects if self.objects else 1.0

    @property
    def precision(self) -> float:
        """Fraction of detections that are objects; 1 without detections."""
        return self.agreements / self.detections if self.detections else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision; 1 if there is nothing."""
        total = self.objects + self.detections
        return 2 * self.agreements / total if total else 1.0


class TrackerScores(NamedTuple):
    """Scores of a volume: boxes of single sections, and links of successive ones."""

    boxes: Counts
    links: Counts


def score_tracker(
    detector: BoxDetector, source: Source, least_area: int, least_score: float
) -> TrackerScores:
    """Detect and link the objects of a volume, and compare them with its truth.

    Parameters
    ----------
    detector : BoxDetector
    source : Source
    least_area : int
        Minimum area of an object, pixels. Detections of smaller ones are not counted as wrong.
    least_score : float
        Minimum score of a detection that counts.
    """
    boxes, links = Counts(), Counts()
    memory: Memory | None = None
    before: tuple[np.ndarray, np.ndarray] | None = None  # identities of detections, track ids
    rule = Association()
    for image, truth in zip(source.image, source.truth, strict=True):
        detections = Detections(*detector.detect(image))
        if memory is None:
            memory = Memory.empty(detections.embeddings.shape[1])
        tracked, memory = associate(memory, detections, rule)
        everything = objects_of(truth)
        counted = tracked.detections.scores >= least_score
        shown, ids = tracked.detections.take(np.flatnonzero(counted)), tracked.ids[counted]
        pairs = matched_boxes(shown.boxes, everything.boxes)
        boxes = boxes.plus(_box_counts(shown, everything, pairs, least_area))
        identities = np.where(pairs >= 0, everything.identities[pairs], 0)
        now = identities, ids
        if before is not None and not source.flat:
            links = links.plus(link_counts(before, now))
        before = now
    return TrackerScores(boxes, links)


def matched_boxes(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The object of each detection, one to one, better detections first.

    Parameters
    ----------
    boxes : float, (N, 4)
        By descending score.
    objects : float, (M, 4)

    Returns
    -------
    int64, (N,)
        Index of the object; -1: none overlaps by `OVERLAP` that is still free.
    """
    shared = box_overlaps(boxes, objects)
    pairs = np.full(len(boxes), -1, np.int64)
    if not shared.size:
        return pairs
    for number, row in enumerate(shared):
        best = int(row.argmax())
        if row[best] >= OVERLAP:
            pairs[number] = best
            shared[:, best] = 0
    return pairs


def link_counts(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
) -> Counts:
    """Links of two successive sections, of truth and of tracks, among detected objects.

    Parameters
    ----------
    before, after : two int64 arrays, (N,)
        Identity (0: no object) and track (0: none) of each detection.
    """
    (identity, track), (next_identity, next_track) = before, after
    same = (identity[:, None] == next_identity) & (identity[:, None] > 0)
    linked = (track[:, None] == next_track) & (track[:, None] > 0)
    judged = (identity[:, None] > 0) & (next_identity > 0)  # false detections count in boxes
    # An object of several pieces has several true links; each piece needs one of them.
    return Counts(int(same.any(1).sum()), int((linked & judged).sum()), int((linked & same).sum()))


def _box_counts(shown: Detections, objects: Objects, pairs: np.ndarray, least_area: int) -> Counts:
    """Counts of one section, small objects left out of all of them."""
    large = objects.areas >= least_area
    on_small = (pairs >= 0) & ~large[pairs] if len(large) else np.zeros(len(pairs), bool)
    agreements = int(((pairs >= 0) & ~on_small).sum())
    return Counts(int(large.sum()), int(len(shown.scores) - on_small.sum()), agreements)


def mean_error(scores: Sequence[TrackerScores]) -> float:
    """The mean over volumes of 1 - f1 of boxes and of links: the lower, the better."""
    return float(np.mean([1 - part.f1 for score in scores for part in score]))
