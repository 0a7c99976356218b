"""The loop over sections: objects followed, overlaps resolved, births, deaths and names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from volflow.core.stage import Record
from volflow.track.follower import Follower, Section
from volflow.track.memory import HALF, Track, cropped, from_record, to_record
from volflow.track.naming import labels_by_place
from volflow.track.overlaps import divided, windows
from volflow.track.seeds import Seed


@dataclass(frozen=True)
class Rules:
    """Births and deaths of tracks.

    Attributes
    ----------
    min_area : int
        Smallest area of an object in a section, in pixels.
    patience : int
        Sections in a row without an object of this area, or without a probability of a half, after
        which its track ends.
    claimed : float
        A segment is the start of a new track if at most this share of it belongs to tracks.
    reach : int
        Pixels around an object's newest mask in which it is searched.
    """

    min_area: int = 30
    patience: int = 2
    claimed: float = 0.3
    reach: int = 16


@dataclass
class Tracker:
    """The live tracks of one chain.

    Parameters
    ----------
    follower : Follower
    rules : Rules
    tracks : list of Track
        Ascending by key.
    born : int
        Number of tracks born so far, which is the largest key.
    seen : int
        Number of sections that the follower has seen in this part.
    """

    follower: Follower
    rules: Rules
    tracks: list[Track] = field(default_factory=list)
    born: int = 0
    seen: int = 0
    _current: Section | None = None

    @classmethod
    def resumed(cls, follower: Follower, rules: Rules, state: Record | None) -> Tracker:
        """The tracker at the start of a part, with the state that the part before left."""
        follower.forget()
        return cls(follower, rules, *(from_record(state) if state is not None else ([], 0)))

    def state(self) -> Record:
        """The state with which the next part begins."""
        return to_record(self.tracks, self.born)

    def follow(self, section: Section) -> np.ndarray:
        """Follow all tracks into a section; without a track, the follower does not see it.

        Returns
        -------
        int64, (Y, X)
            The key of the track at each pixel; 0 is background.
        """
        shape = (section.image.shape[0], section.image.shape[1])
        self.tracks = [track.older() for track in self.tracks]
        if not self.tracks:
            return np.zeros(shape, np.int64)
        known = min(self.seen, self.follower.memory)
        self.look(section)
        objects = [
            track.remembered(self.rules.reach, self.follower.stride, shape, known)
            for track in self.tracks
        ]
        origins = [each.origin for each in objects]
        claims = divided(self.follower.masks(objects), origins, shape)
        area = np.bincount(claims.owner.ravel(), minlength=len(objects) + 1)[1:]
        for number, share in enumerate(claims.shares):
            crop = cropped(np.rint(share * 255).astype(np.uint8), origins[number])
            large = area[number] >= self.rules.min_area and crop.mask.max(initial=0) >= HALF
            track = self.tracks[number]
            self.tracks[number] = (
                track.seen(crop, self.follower.memory)
                if large
                else replace(track, missed=track.missed + 1)
            )
        seen = [0] + [0 if track.missed else track.key for track in self.tracks]
        self.tracks = [track for track in self.tracks if track.missed < self.rules.patience]
        keys: np.ndarray = np.array(seen, np.int64)[claims.owner]
        return keys

    def look(self, section: Section | None) -> None:
        """Have the follower see a section, once; None stands for a blank one."""
        if section is not None and section is not self._current:
            self.follower.see(section)
            self._current = section
            self.seen += 1

    def begin(self, keys: np.ndarray, seeds: Iterable[Seed]) -> dict[int, int]:
        """Start a track from each seed, in their order, where no other track is.

        Parameters
        ----------
        keys : int64, (Y, X)
            From `follow`; the pixels of new tracks are written.
        seeds : iterable of Seed

        Returns
        -------
        dict of int to int
            For each seed with a label, the label of its track: its own, or that of the track that
            is there (0 if that has none yet). Seeds that are too small are left out.
        """
        taken: dict[int, int] = {}
        for seed in seeds:
            here, inside = windows(seed.origin, seed.mask.shape, keys.shape[:2])
            mask, around = seed.mask[inside], keys[here]
            free = mask & (around == 0)
            area, left = int(np.count_nonzero(mask)), int(np.count_nonzero(free))
            if area - left > self.rules.claimed * area:
                if seed.id:
                    owners, counts = np.unique(around[mask & ~free], return_counts=True)
                    key = int(owners[counts.argmax()])
                    taken[seed.id] = next(track.id for track in self.tracks if track.key == key)
                continue
            if left < self.rules.min_area:
                continue
            self.born += 1
            if seed.id:
                taken[seed.id] = seed.id
            around[free] = self.born
            origin = (here[0].start, here[1].start)
            crop = cropped(free.view(np.uint8) * np.uint8(255), origin)
            self.tracks.append(Track(self.born, seed.id, 0, (crop,)))
        return taken

    def labels(
        self, keys: np.ndarray, write: tuple[slice, slice], first: tuple[int, int]
    ) -> np.ndarray:
        """Labels of a section; tracks that are first written here are named here.

        `keys` is from `follow` and `begin`; for the rest see `labels_by_place`.

        Returns
        -------
        uint64, (Y, X)
            0 is background, and tracks of which no voxel has been written yet.
        """
        places = labels_by_place(keys, write, first)
        for number, track in enumerate(self.tracks):
            if not track.id and track.key in places:
                self.tracks[number] = replace(track, id=places[track.key])
        names = np.zeros(self.born + 1, np.uint64)
        for track in self.tracks:
            names[track.key] = track.id
        labels: np.ndarray = names[keys]
        return labels
