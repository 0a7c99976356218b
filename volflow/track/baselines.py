"""Followers without a network: the segment of the affinities under a mask, or the mask again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from volflow.track.follower import Remembered, Section
from volflow.track.memory import HALF
from volflow.track.overlaps import windows


class SameMask:
    """A follower that repeats the newest mask of an object."""

    memory = 1
    stride = 1

    def forget(self) -> None:
        """Nothing is remembered."""

    def see(self, section: Section) -> None:
        """A section has no effect."""

    def masks(self, objects: Sequence[Remembered]) -> list[np.ndarray]:
        """The newest mask of each object."""
        return [each.masks[-1] / np.float32(255) for each in objects]

    def first_masks(self, boxes: Sequence[tuple[int, int, int, int]]) -> list[np.ndarray]:
        """The whole of each box cannot be a mask."""
        raise NotImplementedError("a follower without a network has no masks of boxes")


class AffinitySegments(SameMask):
    """A follower that takes the affinities' segments under the newest mask of an object.

    The probability of a segment is the share of its affinities along z that lead into the mask.
    Where they are weak, on average below a half, the share is that of a segment with a half. Of a
    mask that is older than the section before, or with a blank section between, the probability is
    the share of the pixels.

    Parameters
    ----------
    segments : function
        The segments of a section, int32 (Y, X), from its affinities (3, Y, X).
    """

    def __init__(self, segments: Callable[[np.ndarray], np.ndarray]) -> None:
        self._segments = segments
        self._labels = np.zeros((0, 0), np.int32)
        self._across = np.zeros((0, 0), np.uint8)
        self._weight = self._area = np.zeros(0)
        self._after_blank = False

    def see(self, section: Section) -> None:
        """Segment the section."""
        if "d" not in section.offline:
            raise ValueError("follower affinity: expected affinities; connect `affinity`")
        affinity = section.offline["d"]
        self._after_blank = section.after_blank
        self._labels, self._across = self._segments(affinity), affinity[0]
        whole = np.bincount(self._labels.ravel(), self._across.ravel())
        self._area = np.bincount(self._labels.ravel()).astype(float)
        self._weight = np.maximum(whole, self._area * (255 / 2))

    def masks(self, objects: Sequence[Remembered]) -> list[np.ndarray]:
        """The segments under each object's newest mask, as far as its window reaches."""
        return [self._mask(each) for each in objects]

    def _mask(self, remembered: Remembered) -> np.ndarray:
        newest = remembered.masks[-1]
        near = remembered.ages[-1] == 1 and not self._after_blank
        here, inside = windows(remembered.origin, newest.shape, self._labels.shape)
        labels, under = self._labels[here], newest[inside] >= HALF
        across = self._across[here][under] if near else None
        into = np.bincount(labels[under], across, len(self._area))
        share = into / np.maximum(self._weight if near else self._area, 1)
        share[0] = 0
        mask = np.zeros(newest.shape, np.float32)
        mask[inside] = share[labels]
        return mask
