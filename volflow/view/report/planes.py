"""Planes through a volume in pixels of any size, read from the scale that fits and no finer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Box, Triple, zyx
from volflow.io.formats.stored_array import Resolution
from volflow.io.volume import Volume

BUDGET = 256 << 20  # bytes of stored chunks that one plane may touch


@dataclass(frozen=True)
class Frame:
    """Where the pixels of a plane lie.

    Parameters
    ----------
    axis : int
        The axis (of z, y, x) that the plane is perpendicular to.
    at_nm : float
        Where on that axis.
    start_nm, pixel_nm : (float, float), float
        Along the two other axes: the corner of the first pixel, and the side of all of them.
    shape : (int, int)
        Number of pixels.
    """

    axis: int
    at_nm: float
    start_nm: tuple[float, float]
    pixel_nm: float
    shape: tuple[int, int]

    @property
    def axes(self) -> tuple[int, int]:
        """The axes in the plane."""
        first, second = (axis for axis in range(3) if axis != self.axis)
        return first, second


def sample(scales: Sequence[Volume], resolution: Resolution, frame: Frame) -> np.ndarray:
    """The voxel at the middle of each pixel; 0 outside the volume.

    Where the chunks that the plane touches are more than `BUDGET`, as in a stack of large
    sections that is cut across, only so much around the middle is read; the rest is 0.

    Parameters
    ----------
    scales : sequence of Volume
        Finest first.
    resolution : tuple of float
        Nanometres per voxel of the finest, where it does not tell.
    frame : Frame

    Returns
    -------
    array, (H, W) or (C, H, W)
    """
    volume = _fitting(scales, resolution, frame)
    sides = volume.resolution or resolution
    at = math.floor(frame.at_nm / sides[frame.axis])
    index: list[np.ndarray] = []
    for axis, start, length in zip(frame.axes, frame.start_nm, frame.shape, strict=True):
        middles = start + (np.arange(length) + 0.5) * frame.pixel_nm
        index.append(np.floor(middles / sides[axis]).astype(np.int64))
    box = _box(frame, at, index)
    box = affordable(volume, box.clip(volume.bounds))
    channels = (volume.channels,) if volume.channels else ()
    found = np.zeros((*channels, *frame.shape), volume.dtype)
    if not box.size:
        return found
    plane = np.take(volume.read(box), 0, axis=frame.axis - 3)  # ((C,) H, W)
    inside, places = [], []
    for axis, numbers in zip(frame.axes, index, strict=True):
        within = (numbers >= box.start[axis]) & (numbers < box.stop[axis])
        inside.append(np.flatnonzero(within))
        places.append(numbers[within] - box.start[axis])
    rows, columns = np.ix_(*inside)
    from_rows, from_columns = np.ix_(*places)
    found[..., rows, columns] = plane[..., from_rows, from_columns]
    return found


def affordable(volume: Volume, box: Box, budget: int = BUDGET) -> Box:
    """As much of the middle of a box as can be read for `budget` bytes of chunks, or one chunk."""
    while True:
        touched = _touched(volume, box)
        sides = [min(c, n) for c, n in zip(volume.chunk, volume.bounds.shape, strict=True)]
        chunk = math.prod(sides) * max(1, volume.channels) * volume.stored_dtype.itemsize
        if math.prod(touched) * chunk <= budget or max(touched) <= 1:
            return box
        axis = int(np.argmax(touched))
        start, stop = list(box.start), list(box.stop)
        length = stop[axis] - start[axis]
        start[axis] += length // 4
        stop[axis] = start[axis] + max(1, length // 2)
        box = Box(zyx(start), zyx(stop))


def _touched(volume: Volume, box: Box) -> Triple:
    """Chunks that a box touches along each axis."""
    first = volume.bounds.start
    axes = zip(box.start, box.stop, first, volume.chunk, strict=True)
    return zyx([max(0, -(-(b - o) // c) - (a - o) // c) if b > a else 0 for a, b, o, c in axes])


def _fitting(scales: Sequence[Volume], resolution: Resolution, frame: Frame) -> Volume:
    """The coarsest scale whose voxels are no larger than a pixel; else the finest."""
    fitting = scales[0]
    for volume in scales[1:]:
        sides = volume.resolution or resolution
        if all(sides[axis] <= frame.pixel_nm * 1.01 for axis in frame.axes):
            fitting = volume
    return fitting


def _box(frame: Frame, at: int, index: Sequence[np.ndarray]) -> Box:
    start, stop = [at] * 3, [at + 1] * 3
    for axis, numbers in zip(frame.axes, index, strict=True):
        start[axis], stop[axis] = int(numbers[0]), int(numbers[-1]) + 1
    return Box(zyx(start), zyx(stop))
