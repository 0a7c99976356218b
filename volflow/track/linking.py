"""Tracks of different runs joined into objects by their overlaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from volflow.core.stage import Record

CONTAINED = 0.9  # weight of containment relative to intersection over union


class Candidate(NamedTuple):
    """Two tracks that overlap, and how well; sorted, the best comes first."""

    rank: float
    """Minus the score."""
    a: int
    b: int


def joined(tables: Record, least: float) -> tuple[np.ndarray, np.ndarray]:
    """The object of each track: tracks that are mutually best, unless they exclude each other.

    The score of two tracks of different runs is the larger of the intersection over union and 0.9
    of the containment, over the sections that both have in the voxels that both runs cover. Two
    tracks are a candidate if each is the other's best in its run and the score is at least `least`.
    Candidates are joined from the best to the worst, equal ones by their ids; two objects with
    tracks of one run in the same section are not joined.

    Parameters
    ----------
    tables : record
        Of the whole volume, from `volflow.track.seams`.
    least : float
        Smallest score, 0 to 1.

    Returns
    -------
    uint64, (T,), and uint64, (T,)
        All tracks, ascending, and the smallest id of each one's object.
    """
    ids, runs = tables["extent.id"], tables["extent.run"]
    spans = np.stack([tables["extent.first"], tables["extent.last"]], axis=1)
    groups = Groups(ids.tolist(), runs.tolist(), spans.tolist())
    run_of = dict(zip(ids.tolist(), runs.tolist(), strict=True))
    for candidate in sorted(mutual(scores(tables, run_of), run_of)):
        if -candidate.rank >= least:
            groups.join(candidate.a, candidate.b)
    return ids, np.array([groups.name(track) for track in ids.tolist()], np.uint64)


def scores(tables: Record, run_of: dict[int, int]) -> Iterable[Candidate]:
    """All pairs of tracks that overlap, with their scores."""
    areas: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    rows = (tables[f"area.{name}"].tolist() for name in ("id", "run", "z", "voxels"))
    for track, run, z, voxels in zip(*rows, strict=True):
        areas[track, run][z] = voxels
    columns = (tables[f"pair.{name}"].tolist() for name in ("a", "b", "voxels"))
    for a, b, shared in zip(*columns, strict=True):
        if a not in run_of or b not in run_of:
            continue  # a part of the volume was computed, for a trial
        of_a, of_b = areas[a, run_of[b]], areas[b, run_of[a]]
        sections = of_a.keys() & of_b.keys()
        size_a, size_b = (sum(of[z] for z in sections) for of in (of_a, of_b))
        union = shared / (size_a + size_b - shared)
        yield Candidate(-max(union, CONTAINED * shared / min(size_a, size_b)), a, b)


def mutual(candidates: Iterable[Candidate], run_of: dict[int, int]) -> list[Candidate]:
    """The candidates of which each track is the other's best in its run."""
    candidates = list(candidates)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for rank, a, b in candidates:
        for track, other in ((a, b), (b, a)):
            key = track, run_of[other]
            best[key] = min(best.get(key, (rank, other)), (rank, other))
    return [
        candidate
        for candidate in candidates
        if best[candidate.a, run_of[candidate.b]][1] == candidate.b
        and best[candidate.b, run_of[candidate.a]][1] == candidate.a
    ]


class Groups:
    """Tracks joined into objects, and the sections of each run in which an object is.

    Parameters
    ----------
    ids, runs : lists of int
        The tracks, and the run of each.
    spans : list of (int, int)
        First and last section of each.
    """

    def __init__(self, ids: list[int], runs: list[int], spans: list[list[int]]) -> None:
        self._parent = {track: track for track in ids}
        self._spans = {
            track: {run: [(first, last)]}
            for track, run, (first, last) in zip(ids, runs, spans, strict=True)
        }

    def name(self, track: int) -> int:
        """The smallest track of the object that a track belongs to."""
        while self._parent[track] != track:
            self._parent[track] = self._parent[self._parent[track]]
            track = self._parent[track]
        return track

    def join(self, a: int, b: int) -> bool:
        """Join the objects of two tracks unless they have tracks of a run in the same section."""
        one, two = sorted((self.name(a), self.name(b)))
        if one == two or self._exclude(self._spans[one], self._spans[two]):
            return False
        for run, spans in self._spans.pop(two).items():
            self._spans[one].setdefault(run, []).extend(spans)
        self._parent[two] = one
        return True

    @staticmethod
    def _exclude(
        one: dict[int, list[tuple[int, int]]], two: dict[int, list[tuple[int, int]]]
    ) -> bool:
        return any(
            first <= end and start <= last
            for run in one.keys() & two.keys()
            for first, last in one[run]
            for start, end in two[run]
        )
