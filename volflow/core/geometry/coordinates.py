"""Coordinates along z, y, x in voxels, with arithmetic axis by axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

Triple: TypeAlias = tuple[int, int, int]
"""z, y, x as parameters take them; computed coordinates are `Zyx`."""
Resolution: TypeAlias = tuple[float, float, float]
"""Voxel size z, y, x in nanometres."""


class Zyx(NamedTuple):
    """Integers along z, y, x, with arithmetic axis by axis.

    Equal to the plain tuple of the same numbers, with the same repr. The other operand is three
    integers, or one for all axes; division rounds down, `-(-a // b)` rounds up.
    """

    z: int
    y: int
    x: int

    def __add__(self, other: Triple | int) -> Zyx:  # type: ignore[override]
        z, y, x = _three(other)
        return Zyx(self[0] + z, self[1] + y, self[2] + x)

    def __sub__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] - z, self[1] - y, self[2] - x)

    def __mul__(self, other: Triple | int) -> Zyx:  # type: ignore[override]
        z, y, x = _three(other)
        return Zyx(self[0] * z, self[1] * y, self[2] * x)

    def __floordiv__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] // z, self[1] // y, self[2] // x)

    def __mod__(self, other: Triple | int) -> Zyx:
        z, y, x = _three(other)
        return Zyx(self[0] % z, self[1] % y, self[2] % x)

    def __neg__(self) -> Zyx:
        return Zyx(-self[0], -self[1], -self[2])

    def __repr__(self) -> str:
        return f"({self[0]}, {self[1]}, {self[2]})"

    def minimum(self, other: Triple | int) -> Zyx:
        """The smaller number on each axis."""
        z, y, x = _three(other)
        return Zyx(min(self[0], z), min(self[1], y), min(self[2], x))

    def maximum(self, other: Triple | int) -> Zyx:
        """The larger number on each axis."""
        z, y, x = _three(other)
        return Zyx(max(self[0], z), max(self[1], y), max(self[2], x))


def _three(values: Triple | int) -> Triple:
    return (values, values, values) if isinstance(values, int) else values


def zyx(values: Iterable[int] | int) -> Zyx:
    """Coordinates from three integers z, y, x, or from one for all axes.

    Raises
    ------
    ValueError
        If there are not exactly three integers.
    """
    if isinstance(values, int):
        return Zyx(values, values, values)
    z, y, x = values
    return Zyx(int(z), int(y), int(x))
