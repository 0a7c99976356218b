"""The sections of a part of a volume, and the seeds in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from volflow.core.geometry import Box
from volflow.track.cells import Cell
from volflow.track.follower import Section
from volflow.track.loop import Rules, Tracker
from volflow.track.memory import HALF
from volflow.track.section_segments import section_segments
from volflow.track.seeds import (
    Seed,
    components,
    seeds_of_labels,
    segment_at,
    segment_in,
    unclaimed,
)


class Segments:
    """The segments of a section by its affinities; the last section's are remembered."""

    def __init__(self, threshold: float, low: int) -> None:
        self._options = threshold, low
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, affinity: np.ndarray) -> np.ndarray:
        """Segments, int32 (Y, X), of affinities, uint8 (3, Y, X)."""
        if self._last is None or self._last[0] is not affinity:
            self._last = affinity, section_segments(affinity, *self._options)
        return self._last[1]


@dataclass(frozen=True)
class VolumeSections:
    """The sections of arrays over a box; see `volflow.track.part.Sections`.

    Attributes
    ----------
    box : Box
        The box of the arrays.
    image : uint8, (Z, Y, X), or None
    offline : mapping of str to uint8, (C, Z, Y, X)
        Predictions by type, as in `Section`, but affinities along z as they are stored.
    back : bool
        Whether the loop comes from the next section along z.
    begin : function
        The seeds of a section: of z, the section, and the tracks in it.
    """

    box: Box
    image: np.ndarray | None
    offline: Mapping[str, np.ndarray]
    back: bool
    begin: Callable[[int, Section, np.ndarray], list[Seed]]

    def section(self, z: int) -> Section | None:
        """The section at z; None if its image, or without an image its affinities, are constant."""
        at = z - self.box.start[0]
        if self._is_blank(at):
            return None
        offline = {name: np.ascontiguousarray(array[:, at]) for name, array in self.offline.items()}
        if self.back and "d" in offline:
            after = self.offline["d"][0, at + 1 : at + 2]
            offline["d"][0] = after[0] if len(after) else 0
        image = self.image[at] if self.image is not None else offline["d"][1]
        before = at + 1 if self.back else at - 1
        after_blank = 0 <= before < self.box.shape[0] and self._is_blank(before)
        return Section(np.ascontiguousarray(image), offline, after_blank)

    def _is_blank(self, at: int) -> bool:
        """Whether the image, or without an image the affinities, of a section are constant."""
        if self.image is not None:
            shown = self.image[at]
        else:
            shown = self.offline["d"][:, at] if "d" in self.offline else np.zeros(0)
        return not shown.size or bool((shown == shown.flat[0]).all())

    def seeds(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section whose tracks are `keys`, int64 (Y, X)."""
        return self.begin(z, section, keys)


@dataclass(frozen=True)
class EverySegment:
    """Seeds everywhere: the segments of the affinities that no track has claimed."""

    segments: Segments
    rules: Rules

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section."""
        segments = self.segments(section.offline["d"])
        return unclaimed(segments, keys, self.rules.claimed, self.rules.min_area)


@dataclass(frozen=True)
class Painted:
    """Seeds where a volume of labels has them, each object with its label.

    Attributes
    ----------
    labels : integers, (Z, Y, X)
    first : int
        z of the first section.
    """

    labels: np.ndarray
    first: int

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section."""
        return seeds_of_labels(self.labels[z - self.first])


@dataclass(frozen=True)
class Stained:
    """Seeds where a stain is not 0 and no track is, one per connected component of a section."""

    stain: np.ndarray
    first: int
    rules: Rules

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section."""
        parts = components(self.stain[z - self.first] != 0)
        return unclaimed(parts, keys, self.rules.claimed, self.rules.min_area)


@dataclass(frozen=True)
class Chosen:
    """Seeds at chosen cells: the segment at a point, or the mask of a box.

    Attributes
    ----------
    cells : sequence of Cell
    origin : (int, int)
        y and x of the tile.
    segments : Segments
    tracker : Tracker
        Its follower is asked for the masks of boxes; if it has no box extractor, the segment with
        the best overlap is taken.
    reach : int
        Pixels around a point in which a segment is searched.
    """

    cells: Sequence[Cell]
    origin: tuple[int, int]
    segments: Segments
    tracker: Tracker
    reach: int = 8

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section."""
        seeds = []
        for cell in self.cells:
            if cell.z == z:
                seed = self._seed(cell, section)
                if seed is not None and seed.mask.any():
                    seeds.append(seed._replace(id=cell.id))
        return seeds

    def _seed(self, cell: Cell, section: Section) -> Seed | None:
        top, left = self.origin
        y, x, end_y, end_x = cell.box
        if cell.point:
            return segment_at(self.segments(section.offline["d"]), (y - top, x - left), self.reach)
        box = (y - top, x - left, end_y - top, end_x - left)
        try:
            self.tracker.look(section)
            (mask,) = self.tracker.follower.first_masks([box])
        except NotImplementedError:
            return segment_in(self.segments(section.offline["d"]), box)
        return Seed((0, 0), np.rint(mask * 255) >= HALF)


@dataclass(frozen=True)
class NamedAlike:
    """The seeds of another function, named after the labels of a run in the other direction.

    Attributes
    ----------
    begin : function
    labels : uint64, (Z, Y, X)
        Labels of the other run; a seed gets the one that most of its pixels have, if any has one.
    first : int
        z of the first section.
    names : dict of int to int
        For each seed with a label of its own, the label that it got.
    """

    begin: Callable[[int, Section, np.ndarray], list[Seed]]
    labels: np.ndarray
    first: int
    names: dict[int, int] = field(default_factory=dict)

    def __call__(self, z: int, section: Section, keys: np.ndarray) -> list[Seed]:
        """The seeds of a section."""
        return [self._named(seed, z) for seed in self.begin(z, section, keys)]

    def _named(self, seed: Seed, z: int) -> Seed:
        (y, x), (height, width) = seed.origin, seed.mask.shape
        under = self.labels[z - self.first, y : y + height, x : x + width][seed.mask]
        names, counts = np.unique(under[under != 0], return_counts=True)
        if not len(names):
            return seed
        label = int(names[counts.argmax()])
        if seed.id:
            self.names[seed.id] = label
        return seed._replace(id=label)
