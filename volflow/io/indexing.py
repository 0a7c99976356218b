"""Numpy-style indexing of a volume in absolute voxels."""

from __future__ import annotations

from types import EllipsisType
from typing import TypeAlias

from volflow.core.geometry import Box

AxisIndex: TypeAlias = int | slice | EllipsisType
Index: TypeAlias = AxisIndex | tuple[AxisIndex, ...]


def indexed_box(index: Index, bounds: Box, channels: int) -> tuple[Box, tuple[int | slice, ...]]:
    """The box that an index selects, and the index into the array read from that box.

    Voxels are absolute, so a volume that starts at z 100 has no z 0, and a negative number is a
    coordinate, not a distance from the end. Channels, the first axis where there are any, count
    from 0. A slice keeps its axis, an integer drops it.

    Parameters
    ----------
    index : int, slice, Ellipsis or tuple of these
        As in `array[index]`, without steps.
    bounds : Box
        Bounds of the volume.
    channels : int
        Length of the channel axis; 0 if the volume has none.

    Raises
    ------
    IndexError
        If there are too many indices, or one is outside the bounds, or a slice has a step.
    """
    axes = ["c", "z", "y", "x"] if channels else ["z", "y", "x"]
    limits = [*([(0, channels)] if channels else []), *zip(bounds.start, bounds.stop, strict=True)]
    starts, stops, picks = [], [], []
    for axis, (low, high), part in zip(axes, limits, _expanded(index, len(axes)), strict=True):
        start, stop = _interval(axis, part, low, high)
        starts.append(start)
        stops.append(stop)
        picks.append(slice(None) if isinstance(part, slice) else 0)
    box = Box(starts[-3:], stops[-3:])
    if not channels:
        return box, tuple(picks)
    chosen = slice(starts[0], stops[0]) if isinstance(picks[0], slice) else starts[0]
    return box, (chosen, *picks[1:])


def _expanded(index: Index, axes: int) -> list[int | slice]:
    """One integer or slice per axis, the ellipsis replaced by full slices."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can contain one ellipsis ('...') only")
    given = [part for part in parts if not isinstance(part, EllipsisType)]
    if len(given) > axes:
        raise IndexError(f"too many indices: the volume has {axes} axes; got {len(given)}")
    place = dots[0] if dots else len(given)
    return [*given[:place], *[slice(None)] * (axes - len(given)), *given[place:]]


def _interval(axis: str, part: int | slice, low: int, high: int) -> tuple[int, int]:
    """First and last-plus-one voxel along an axis."""
    if not isinstance(part, slice):
        start, stop = int(part), int(part) + 1
    elif part.step not in (None, 1):
        raise IndexError(f"axis {axis}: expected a slice without a step, got step {part.step}")
    else:
        start = low if part.start is None else int(part.start)
        stop = high if part.stop is None else int(part.stop)
    if start < low or stop > high or stop < start:
        shown = f"{start}:{stop}" if isinstance(part, slice) else str(start)
        raise IndexError(
            f"axis {axis}: expected voxels within {low}:{high}, got {shown} "
            f"(absolute voxels; `read(box)` pads beyond the bounds)"
        )
    return start, stop
