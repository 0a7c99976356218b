"""Half-open boxes of voxels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from volflow.core.geometry.coordinates import Triple, Zyx


@dataclass(frozen=True, slots=True, init=False)
class Box:
    """A half-open box of voxels: `start` is included, `stop` is not."""

    start: Zyx
    stop: Zyx

    def __init__(self, start: Iterable[int], stop: Iterable[int]) -> None:
        object.__setattr__(self, "start", start if isinstance(start, Zyx) else Zyx(*start))
        object.__setattr__(self, "stop", stop if isinstance(stop, Zyx) else Zyx(*stop))

    @classmethod
    def parse(cls, text: str) -> Box:
        """The box written as `z0:z1,y0:y1,x0:x1`.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        match = re.fullmatch(r"\s*" + r"\s*,\s*".join([r"(-?\d+):(-?\d+)"] * 3) + r"\s*", text)
        if not match:
            raise ValueError(f"expected a box z0:z1,y0:y1,x0:x1 in voxels, got {text!r}")
        numbers = [int(number) for number in match.groups()]
        return cls(numbers[0::2], numbers[1::2])

    @property
    def shape(self) -> Zyx:
        """Number of voxels along z, y, x; never negative."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return Zyx(max(z1 - z0, 0), max(y1 - y0, 0), max(x1 - x0, 0))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices of this box in an array that starts at voxel (0, 0, 0)."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    def within(self, other: Box) -> tuple[slice, slice, slice]:
        """Slices of this box in an array that covers `other`."""
        return self.shift(-other.start).slices

    def shift(self, offset: Triple) -> Box:
        """The box moved by `offset` voxels."""
        return Box(self.start + offset, self.stop + offset)

    def grow(self, halo: Triple) -> Box:
        """The box with `halo` more voxels on both sides."""
        return Box(self.start - halo, self.stop + halo)

    def clip(self, other: Box) -> Box:
        """The intersection of both boxes; empty if they do not overlap."""
        start = self.start.maximum(other.start)
        return Box(start, self.stop.minimum(other.stop).maximum(start))

    def covers(self, other: Box) -> bool:
        """Whether all of `other` is inside this box."""
        (z0, y0, x0), (z1, y1, x1) = other.start, other.stop
        (low_z, low_y, low_x), (high_z, high_y, high_x) = self.start, self.stop
        inside = low_z <= z0 and low_y <= y0 and low_x <= x0
        inside = inside and z1 <= high_z and y1 <= high_y and x1 <= high_x
        return inside or other.size == 0

    def zoom_in(self, factor: Triple) -> Box:
        """The same region in voxels `factor` times smaller."""
        return Box(self.start * factor, self.stop * factor)

    def zoom_out(self, factor: Triple) -> Box:
        """The smallest box of voxels `factor` times larger that covers this one."""
        return Box(self.start // factor, -(-self.stop // factor))

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
