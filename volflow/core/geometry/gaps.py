"""Sections left out of a volume: its z, and z with the other sections closed up.

z        0 1 2 3 4 5 6 7        sections 3, 4 and 5 are left out
closed   0 1 2 . . . 3 4
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from volflow.core.geometry.box import Box
from volflow.core.geometry.coordinates import Zyx


@dataclass(frozen=True, init=False)
class Gaps:
    """Sections that are left out; those behind each of them move up by one."""

    sections: tuple[int, ...]
    """z of each, ascending."""

    def __init__(self, sections: Iterable[int] = ()) -> None:
        object.__setattr__(self, "sections", tuple(sorted(set(sections))))

    def __bool__(self) -> bool:
        return bool(self.sections)

    def closed(self, z: int) -> int:
        """The closed z of a section; for one that is left out, that of the next one left."""
        return z - bisect_left(self.sections, z)

    def opened(self, z: int) -> int:
        """The z in the volume of a section by its closed z."""
        for section in self.sections:
            if section > z:
                break
            z += 1
        return z

    def close(self, box: Box) -> Box:
        """A box of the volume, closed up."""
        start, stop = self.closed(box.start[0]), self.closed(box.stop[0])
        return Box(Zyx(start, *box.start[1:]), Zyx(stop, *box.stop[1:]))

    def open_runs(self, box: Box) -> Iterator[Box]:
        """The contiguous boxes of the volume that a closed box is made of, in order."""
        start, stop = box.start[0], box.stop[0]
        while start < stop:
            first = self.opened(start)
            later = next((section for section in self.sections if section > first), None)
            length = stop - start if later is None else min(stop - start, later - first)
            yield Box(Zyx(first, *box.start[1:]), Zyx(first + length, *box.stop[1:]))
            start += length

    def nearest(self, z: int, bounds: Box) -> int:
        """The closed z of the nearest section within bounds that is left; of two, the one before.

        Raises
        ------
        ValueError
            If no section of the bounds is left.
        """
        left_out = {*self.sections}
        for distance in range(bounds.shape[0] + 1):
            for near in (z - distance, z + distance):
                if bounds.start[0] <= near < bounds.stop[0] and near not in left_out:
                    return self.closed(near)
        raise ValueError(f"all sections of {bounds} are left out")


NO_GAPS = Gaps()
