"""Tracking by detection: boxes of each section are linked, and each box becomes a mask.

    section ──> detector ──> boxes, embeddings ──> linked with memory ──> a key for each box
       └─────────────────────> box extractor ──> masks, overlaps resolved ──> labels

Nothing of a mask is remembered: only boxes and embeddings pass from section to section. This is the
variant TS of the paper; its other variants follow masks (`loop.Tracker`).

References
----------
Zhai et al., II-CATS, MIDL 2023, the variant TS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from volflow.core.stage import Record
from volflow.track.detection.quasidense import Association, Detections, Memory, associate
from volflow.track.follower import Follower, Section
from volflow.track.naming import labels_by_place
from volflow.track.overlaps import divided

Detect = Callable[[np.ndarray], Detections]
"""Detections of a section, uint8 (Y, X)."""

AT_ONCE = 16  # boxes whose masks, as large as the section, are in memory together


@dataclass
class BoxTracker:
    """The live tracks of one chain, as boxes.

    Parameters
    ----------
    detect : callable
        The detector.
    follower : Follower
        Its box extractor makes the masks.
    rule : Association
    margin : int
        Pixels around a box that its mask may cover.
    memory : Memory, optional
        Boxes and embeddings of tracks; default: before the first section.
    names : dict of int to int
        Label of each track of which a voxel was written, by key.
    """

    detect: Detect
    follower: Follower
    rule: Association = field(default_factory=Association)
    margin: int = 4
    memory: Memory | None = None
    names: dict[int, int] = field(default_factory=dict)

    @classmethod
    def resumed(
        cls,
        detect: Detect,
        follower: Follower,
        state: Record | None,
        rule: Association | None = None,
    ) -> BoxTracker:
        """The tracker at the start of a part, with the state that the part before left."""
        follower.forget()
        tracker = cls(detect, follower, rule or Association())
        if state is not None:
            tracker.memory = Memory.of(state)
            pairs = zip(state["keys"].tolist(), state["names"].tolist(), strict=True)
            tracker.names = dict(pairs)
        return tracker

    def state(self) -> Record:
        """The state with which the next part begins."""
        memory = Memory.empty(0) if self.memory is None else self.memory
        return {
            **memory.record(),
            "keys": np.array(list(self.names), np.int64),
            "names": np.array(list(self.names.values()), np.int64),
        }

    def follow(self, section: Section) -> np.ndarray:
        """Detect and link the objects of a section.

        Returns
        -------
        int64, (Y, X)
            The key of the track at each pixel; 0 is background.
        """
        shape = (section.image.shape[0], section.image.shape[1])
        detections = self.detect(section.image)
        if self.memory is None or not len(self.memory.ids):
            # the length of embeddings is known with the first section
            following = np.ones(1, np.int64) if self.memory is None else self.memory.following
            self.memory = Memory.empty(detections.embeddings.shape[1])
            self.memory = self.memory._replace(following=following)
        tracked, self.memory = associate(self.memory, detections, self.rule)
        tracks = tracked.tracks
        self.follower.see(section)
        masks, origins = self._masks(tracks.detections.boxes, shape)
        owner = divided(masks, origins, shape).owner
        keys: np.ndarray = np.concatenate([[0], tracks.ids]).astype(np.int64)[owner]
        self._forget_names()
        return keys

    def labels(
        self, keys: np.ndarray, write: tuple[slice, slice], first: tuple[int, int]
    ) -> np.ndarray:
        """Labels of a section; tracks that are first written here are named here.

        `keys` is from `follow`; for the rest see `labels_by_place`.

        Returns
        -------
        uint64, (Y, X)
            0 is background, and tracks of which no voxel has been written yet.
        """
        self.names = labels_by_place(keys, write, first) | self.names
        present, index = np.unique(keys, return_inverse=True)
        names = np.array([self.names.get(int(key), 0) for key in present], np.uint64)
        labels: np.ndarray = names[index.reshape(keys.shape)]
        return labels

    def _masks(
        self, boxes: np.ndarray, shape: tuple[int, int]
    ) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
        """Probabilities of the objects in boxes, each in its window, and the windows' origins."""
        low = np.floor(boxes[:, :2]).astype(int).clip(0)
        high = np.minimum(np.ceil(boxes[:, 2:]).astype(int), shape)
        masks, origins = [], []
        for start in range(0, len(boxes), AT_ONCE):
            ends = range(start, min(start + AT_ONCE, len(boxes)))
            whole = [(low[n, 0], low[n, 1], high[n, 0], high[n, 1]) for n in ends]
            asked = [(int(a), int(b), int(c), int(d)) for a, b, c, d in whole]
            for (y0, x0, y1, x1), mask in zip(asked, self.follower.first_masks(asked), strict=True):
                y, x = max(0, y0 - self.margin), max(0, x0 - self.margin)
                masks.append(mask[y : y1 + self.margin, x : x1 + self.margin].copy())
                origins.append((y, x))
        return masks, origins

    def _forget_names(self) -> None:
        """Drop the names of tracks that are no longer remembered."""
        assert self.memory is not None
        alive = set(self.memory.ids.tolist())
        self.names = {key: name for key, name in self.names.items() if key in alive}
