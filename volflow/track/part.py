"""One part of a chain: its sections followed in order, and what is written of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from volflow.core.geometry import Box
from volflow.core.stage import Record
from volflow.track.detection.by_detection import BoxTracker
from volflow.track.follower import Section
from volflow.track.loop import Tracker
from volflow.track.seams import rows_beyond
from volflow.track.seeds import Seed


class Sections(Protocol):
    """The sections of a part, and the objects that begin in them."""

    def section(self, z: int) -> Section | None:
        """The section at z over the read box; None if it is blank."""

    def seeds(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section whose tracks are `keys`, int64 (Y, X)."""


@dataclass(frozen=True)
class Place:
    """The place of a part in the volume.

    Attributes
    ----------
    read : Box
        The voxels that are read, within the bounds.
    write : Box
        The voxels that are written.
    bounds : Box
    order : range
        z of the sections to follow, in the order of the chain.
    context : range
        z of the sections before them.
    run : int
        Number of the chain's run, from 0.
    back : bool
        Whether labels are those of a second run: they begin after those of the first.
    """

    read: Box
    write: Box
    bounds: Box
    order: range
    context: range
    run: int = 0
    back: bool = False

    def names(self, z: int) -> tuple[int, int]:
        """The label of a track whose first voxel is the first that is written of a section.

        The second number is the difference to the label of a track that begins in the next row.
        """
        _, height, width = self.bounds.shape
        at_z, y, x = (z, *self.write.start[1:]) - np.array(self.bounds.start)
        first = (int(at_z) * height + int(y)) * width + int(x)
        return 1 + first + (self.bounds.size if self.back else 0), width

    def written(self, z: int) -> tuple[slice, slice]:
        """The pixels of a section, in the read box, that are written: none beyond the slab."""
        if not self.write.start[0] <= z < self.write.stop[0]:
            return slice(0, 0), slice(0, 0)
        return self.write.within(self.read)[1:]


class Followed(NamedTuple):
    """The outcome of a part.

    Attributes
    ----------
    labels : uint64, (Z, Y, X)
        Over the write box.
    beyond : record
        The labels outside it, from `rows_beyond`.
    taken : dict of int to int
        For each seed with a label, the label of the track in which it is; see `Tracker.begin`.
    """

    labels: np.ndarray
    beyond: Record
    taken: dict[int, int]


def follow_part(tracker: Tracker, sections: Sections, place: Place) -> Followed:
    """Follow the tracks of a chain through one part.

    Parameters
    ----------
    tracker : Tracker
        With the state that the part before left; afterwards with that for the next part.
    sections : Sections
    place : Place
    """
    if tracker.tracks:
        for z in place.context:
            tracker.look(sections.section(z))
    labels = np.zeros(place.read.shape, np.uint64)
    taken: dict[int, int] = {}
    for z in place.order:
        section = sections.section(z)
        if section is None:
            continue
        keys = tracker.follow(section)
        here = place.written(z)
        if here[0].stop:
            seeds = sections.seeds(z, section, keys)
            if seeds:
                tracker.look(section)
                taken |= tracker.begin(keys, seeds)
        labels[z - place.read.start[0]] = tracker.labels(keys, here, place.names(z))
    return _cut(labels, place, taken)


def link_part(tracker: BoxTracker, sections: Sections, place: Place) -> Followed:
    """Link the boxes of a chain through one part; each box becomes a mask by itself.

    `tracker` has the state that the part before left; afterwards that for the next part.
    """
    labels = np.zeros(place.read.shape, np.uint64)
    for z in place.order:
        section = sections.section(z)
        if section is not None:
            keys = tracker.follow(section)
            named = tracker.labels(keys, place.written(z), place.names(z))
            labels[z - place.read.start[0]] = named
    return _cut(labels, place, {})


def _cut(labels: np.ndarray, place: Place, taken: dict[int, int]) -> Followed:
    """The labels of a read box, uint64 (Z, Y, X), as the outcome of its part."""
    beyond = rows_beyond(labels, place.read, place.write, place.run)
    return Followed(labels[place.write.within(place.read)], beyond, taken)
