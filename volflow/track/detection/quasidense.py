"""Boxes of successive sections, linked into tracks by their embeddings.

    detections of a section ──> duplicates dropped ──> matched with memory ──> track ids
                                                            ^                     |
                              tracks of the last sections, backdrops <────────────┘

A backdrop is a box of low score. It is remembered for one section, without an id, so that a box
which resembles it does not continue a track.

References
----------
Pang et al., Quasi-Dense Similarity Learning for Multiple Object Tracking, CVPR 2021, section 3.3.
The gate by overlap and distance is ours: neurites look alike, but do not jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

UNTRACKED = 0
"""The id of a detection without a track."""


class Detections(NamedTuple):
    """Objects of one section.

    boxes : float32, (N, 4)
        y0, x0, y1, x1, half-open, voxels.
    scores : float32, (N,)
        0 to 1.
    embeddings : float32, (N, E)
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray

    def take(self, index: np.ndarray) -> Detections:
        """Some of the detections, in the order of an index."""
        return Detections(self.boxes[index], self.scores[index], self.embeddings[index])


class Tracked(NamedTuple):
    """The detections of a section that remain, and the track of each.

    ids : int64, (N,)
        1 or more; 0: no track.
    """

    detections: Detections
    ids: np.ndarray

    @property
    def tracks(self) -> Tracked:
        """The detections with a track."""
        index = np.flatnonzero(self.ids)
        return Tracked(self.detections.take(index), self.ids[index])


@dataclass(frozen=True)
class Association:
    """The thresholds of the association.

    Parameters
    ----------
    duplicate : float
        Overlap (intersection over union) above which the detection of lower score is dropped.
    backdrop_duplicate : float
        The same for detections whose score is below `continued`.
    started : float
        Minimum score of a detection that starts a track.
    continued : float
        Minimum score of a detection that continues a track.
    matched : float
        Similarity above which a detection matches a track, 0 to 1.
    memory : int
        Sections for which a track is remembered without a detection.
    momentum : float
        Weight of the newest embedding in a track's embedding, 0 to 1.
    gated : bool
        Whether a detection is compared only with tracks whose last box it overlaps, or whose centre
        is nearer than the diagonal of that box.
    """

    duplicate: float = 0.7
    backdrop_duplicate: float = 0.3
    started: float = 0.8
    continued: float = 0.5
    matched: float = 0.5
    memory: int = 10
    momentum: float = 0.8
    gated: bool = True


class Memory(NamedTuple):
    """Everything that is remembered between two sections, ordered by id, backdrops first.

    ids : int64, (M,)
        0: a backdrop.
    boxes : float32, (M, 4)
    embeddings : float32, (M, E)
    ages : int64, (M,)
        Sections since the last detection; 1 is the section before the next one.
    following : int64, (1,)
        The id of the next new track.
    """

    ids: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray
    ages: np.ndarray
    following: np.ndarray

    @staticmethod
    def empty(length: int) -> Memory:
        """The memory before the first section, for embeddings of a length."""
        return Memory(
            np.zeros(0, np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros((0, length), np.float32),
            np.zeros(0, np.int64),
            np.ones(1, np.int64),
        )

    def record(self) -> dict[str, np.ndarray]:
        """The memory as columns that can be stored; `Memory.of` is the inverse."""
        return {
            "ids": self.ids,
            "boxes": self.boxes.ravel(),
            "embeddings": self.embeddings.ravel(),
            "ages": self.ages,
            "following": self.following,
            "length": np.array([self.embeddings.shape[1]], np.int64),
        }

    @staticmethod
    def of(record: Mapping[str, np.ndarray]) -> Memory:
        """The memory that a record holds."""
        return Memory(
            record["ids"],
            record["boxes"].reshape(-1, 4),
            record["embeddings"].reshape(-1, int(record["length"][0])),
            record["ages"],
            record["following"],
        )


def associate(
    memory: Memory, detections: Detections, rule: Association | None = None
) -> tuple[Tracked, Memory]:
    """Link the detections of a section with the tracks in memory.

    Parameters
    ----------
    memory : Memory
        After the section before.
    detections : Detections
        In any order: the result does not depend on it.
    rule : Association, optional

    Returns
    -------
    Tracked
        Detections by descending score, without duplicates.
    Memory
        After this section.

    Raises
    ------
    ValueError
        If embeddings differ in length.
    """
    rule = rule or Association()
    remaining = without_duplicates(detections, rule)
    ids = matches(memory, remaining, rule)
    new = (ids == UNTRACKED) & (remaining.scores > rule.started)
    following = int(memory.following[0])
    ids[new] = np.arange(following, following + int(new.sum()))
    updated = _updated(memory, remaining, ids, rule)
    absorbed = ids < 0
    tracked = Tracked(remaining, np.where(absorbed, UNTRACKED, ids))
    return tracked, updated._replace(following=np.array([following + int(new.sum())]))


def without_duplicates(detections: Detections, rule: Association) -> Detections:
    """Detections by descending score, those dropped that overlap a better one too much."""
    boxes, scores = detections.boxes, detections.scores
    order = np.lexsort((*boxes.T[::-1], -scores))
    detections = detections.take(order)
    shared = box_overlaps(detections.boxes, detections.boxes)
    sure = detections.scores >= rule.continued
    limits = np.where(sure, rule.duplicate, rule.backdrop_duplicate)
    remaining = np.ones(len(order), bool)
    for number in range(1, len(order)):
        above = shared[number, :number] > limits[number]
        remaining[number] = not (above & remaining[:number]).any()
    return detections.take(np.flatnonzero(remaining))


def matches(memory: Memory, detections: Detections, rule: Association) -> np.ndarray:
    """The track of each detection, greedily by descending score.

    Returns
    -------
    int64, (N,)
        An id, 0 (none) or -1 (it resembles a backdrop, so it is none).
    """
    ids = np.zeros(len(detections.scores), np.int64)
    if not len(memory.ids):
        return ids
    near = reachable(detections.boxes, memory.boxes) if rule.gated else None
    similarity = bisoftmax(memory.embeddings, detections.embeddings, near).T  # (N, M)
    for number, score in enumerate(detections.scores):
        best = int(similarity[number].argmax())
        if similarity[number, best] <= rule.matched:
            continue
        if memory.ids[best] == UNTRACKED:
            ids[number] = -1
        elif score > rule.continued:
            ids[number] = memory.ids[best]
            similarity[:, best] = 0
    return ids


def bisoftmax(
    tracks: np.ndarray, detections: np.ndarray, comparable: np.ndarray | None = None
) -> np.ndarray:
    """Mutual matching scores of tracks and detections (bi-directional softmax).

    The mean of a softmax over detections and a softmax over tracks; a pair scores above a half only
    if each prefers the other.

    Parameters
    ----------
    tracks : float, (T, E)
    detections : float, (N, E)
    comparable : bool, (N, T), optional
        Pairs that can be one object; the others score 0. Default: all.

    Returns
    -------
    float array, (T, N), values in [0, 1]

    Raises
    ------
    ValueError
        If the two embeddings differ in length.

    References
    ----------
    Pang et al., CVPR 2021, the bi-directional softmax.
    """
    if tracks.shape[1:] != detections.shape[1:]:
        raise ValueError(
            f"tracks and detections must share the embedding length; got shapes {tracks.shape} "
            f"and {detections.shape}"
        )
    product = tracks.astype(np.float64) @ detections.astype(np.float64).T  # (T, N)
    if not product.size:
        return product
    possible = np.ones(product.shape, bool) if comparable is None else comparable.T
    product = np.where(possible, product, -1e30)
    scores: np.ndarray = (softmax(product, axis=1) + softmax(product, axis=0)) / 2
    return np.where(possible, scores, 0)


def reachable(boxes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whether boxes can be of the objects that had the last boxes.

    Parameters
    ----------
    boxes, last : float, (N, 4) and (M, 4)

    Returns
    -------
    bool, (N, M)
        True where boxes overlap, or their centres are nearer than the diagonal of the last box.
    """
    apart = (boxes[:, None, :2] + boxes[:, None, 2:] - last[None, :, :2] - last[None, :, 2:]) / 2
    distance = np.hypot(apart[..., 0], apart[..., 1])
    diagonal = np.hypot(*(last[:, 2:] - last[:, :2]).T)
    near: np.ndarray = (box_overlaps(boxes, last) > 0) | (distance < diagonal)
    return near


def box_overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes.

    Parameters
    ----------
    first, second : float, (N, 4) and (M, 4)

    Returns
    -------
    float array, (N, M)
    """
    y0, x0, y1, x1 = first.T[:, :, None]
    to_y0, to_x0, to_y1, to_x1 = second.T[:, None]
    height = np.minimum(y1, to_y1) - np.maximum(y0, to_y0)
    width = np.minimum(x1, to_x1) - np.maximum(x0, to_x0)
    shared = np.maximum(height, 0) * np.maximum(width, 0)
    union = (y1 - y0) * (x1 - x0) + (to_y1 - to_y0) * (to_x1 - to_x0) - shared
    overlap: np.ndarray = shared / np.maximum(union, 1e-9)
    return overlap


def _updated(memory: Memory, detections: Detections, ids: np.ndarray, rule: Association) -> Memory:
    """The memory after a section: tracks seen, tracks not seen, and backdrops."""
    seen = np.flatnonzero(ids > 0)
    seen = seen[np.argsort(ids[seen], kind="stable")]
    embeddings = detections.embeddings[seen].astype(np.float32)
    _, here, there = np.intersect1d(ids[seen], memory.ids, return_indices=True)
    embeddings[here] = (
        np.float32(1 - rule.momentum) * memory.embeddings[there]
        + np.float32(rule.momentum) * embeddings[here]
    )
    unseen = (memory.ids > 0) & ~np.isin(memory.ids, ids[seen]) & (memory.ages < rule.memory)
    backdrops = _backdrops(detections, ids, rule)
    parts: tuple[tuple[np.ndarray, ...], ...] = (
        (
            np.zeros(len(backdrops), np.int64),
            detections.boxes[backdrops],
            detections.embeddings[backdrops],
            np.ones(len(backdrops), np.int64),
        ),
        (
            memory.ids[unseen],
            memory.boxes[unseen],
            memory.embeddings[unseen],
            memory.ages[unseen] + 1,
        ),
        (ids[seen], detections.boxes[seen], embeddings, np.ones(len(seen), np.int64)),
    )
    columns: list[np.ndarray] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    all_ids, boxes, vectors, ages = columns
    order = np.argsort(all_ids, kind="stable")
    return Memory(
        all_ids[order],
        boxes[order].astype(np.float32),
        vectors[order].astype(np.float32),
        ages[order],
        memory.following,
    )


def _backdrops(detections: Detections, ids: np.ndarray, rule: Association) -> np.ndarray:
    """Indices of detections without a track that overlap no better detection too much."""
    shared = np.tril(box_overlaps(detections.boxes, detections.boxes), -1)
    free = ~(shared > rule.backdrop_duplicate).any(1)
    return np.flatnonzero((ids == UNTRACKED) & free)
