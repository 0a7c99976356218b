"""Seeds from the boxes of a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.track.detection.quasidense import Detections
from volflow.track.follower import Section
from volflow.track.loop import Tracker
from volflow.track.memory import HALF
from volflow.track.seeds import Seed

LARGEST_OVERLAP = 0.3  # intersection over union with the box of a track, above which a box is its


@dataclass(frozen=True)
class Boxed:
    """Seeds where a detector has a box and no track is: the follower's masks of boxes.

    Attributes
    ----------
    detect : function
        Detections in an image, uint8 (Y, X), best first.
    tracker : Tracker
    """

    detect: Callable[[np.ndarray], Detections]
    tracker: Tracker

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section, best first."""
        boxes = np.rint(self.detect(section.image).boxes).astype(np.int64)
        free = boxes[overlaps(boxes, track_boxes(keys)).max(axis=1, initial=0) < LARGEST_OVERLAP]
        chosen = [(int(y), int(x), int(end_y), int(end_x)) for y, x, end_y, end_x in free]
        if not chosen:
            return []
        self.tracker.look(section)
        masks = self.tracker.follower.first_masks(chosen)
        return [Seed((0, 0), np.rint(mask * 255) >= HALF) for mask in masks]


def track_boxes(keys: np.ndarray) -> np.ndarray:
    """The boxes of the tracks of a section, int64 (N, 4), from their keys (Y, X)."""
    numbers = np.unique(keys, return_inverse=True)[1].reshape(keys.shape) + (keys.min() > 0)
    slices = [box for box in ndimage.find_objects(numbers) if box is not None]
    rows = [(y.start, x.start, y.stop, x.stop) for y, x in slices]
    return np.array(rows, np.int64).reshape(-1, 4)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each of N boxes with each of M others, float64 (N, M)."""
    first = np.maximum(boxes[:, None, :2], others[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(last - first, 0), axis=2)
    area, other = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others))
    union: np.ndarray = area[:, None] + other[None] - shared
    ratio: np.ndarray = shared / np.maximum(union, 1)
    return ratio
