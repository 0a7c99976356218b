"""Planes through a volume, resampled to square pixels from the scale that fits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Box, Resolution, Zyx, zyx
from volflow.io.volume import Volume

SIDE = 640  # pixels along the longest side of the volume
ENLARGED = 4.0  # pixels: the largest size of a small volume's voxel
BUDGET = 256 << 20  # bytes of stored chunks that one plane may touch


@dataclass(frozen=True)
class Frame:
    """The position of a plane and its pixels.

    Parameters
    ----------
    axis : int
        The axis (of z, y, x) that the plane is perpendicular to.
    at_nm : float
        Position on that axis.
    start_nm : (float, float)
        Outer corner of the first pixel, along the two other axes.
    pixel_nm : float
        Side of a pixel.
    shape : (int, int)
        Number of pixels along the two other axes.
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


def mid_planes(volume: Volume, resolution: Resolution, side: int = SIDE) -> Iterator[Frame]:
    """The planes across z, y and x through the middle of a volume, all in the same pixels.

    Parameters
    ----------
    volume : Volume
    resolution : 3 float
        Nanometres per voxel, z y x.
    side : int
        Pixels along the longest side; a small volume has fewer, see `ENLARGED`.
    """
    bounds = volume.bounds
    start = [a * r for a, r in zip(bounds.start, resolution, strict=True)]
    extent = [n * r for n, r in zip(bounds.shape, resolution, strict=True)]
    pixel = max(max(extent) / side, min(resolution) / ENLARGED)
    for axis in range(3):
        middle = ((bounds.start[axis] + bounds.stop[axis]) // 2 + 0.5) * resolution[axis]
        first, second = (other for other in range(3) if other != axis)
        shape = (max(1, round(extent[first] / pixel)), max(1, round(extent[second] / pixel)))
        yield Frame(axis, middle, (start[first], start[second]), pixel, shape)


def sample(scales: Sequence[Volume], resolution: Resolution, frame: Frame) -> np.ndarray:
    """The voxel at the centre of each pixel; 0 outside the volume.

    Where the chunks that the plane touches exceed `BUDGET`, as in a stack of large sections that
    is cut across, only the affordable part around the middle is read; the rest is 0.

    Parameters
    ----------
    scales : sequence of Volume
        Finest first.
    resolution : 3 float
        Nanometres per voxel of the finest scale, z y x, for volumes that do not record theirs.
    frame : Frame

    Returns
    -------
    array, (H, W) or (C, H, W)
    """
    volume = _fitting_scale(scales, resolution, frame)
    sides = volume.resolution or resolution
    section = math.floor(frame.at_nm / sides[frame.axis])
    index: list[np.ndarray] = []
    for axis, start, length in zip(frame.axes, frame.start_nm, frame.shape, strict=True):
        centres = start + (np.arange(length) + 0.5) * frame.pixel_nm
        index.append(np.floor(centres / sides[axis]).astype(np.int64))
    box = affordable(volume, _box(frame, section, index).clip(volume.bounds))
    channels = (volume.channels,) if volume.channels else ()
    pixels = np.zeros((*channels, *frame.shape), volume.dtype)
    if not box.size:
        return pixels
    plane = np.take(volume.read(box), 0, axis=frame.axis - 3)  # ((C,) H, W)
    inside, positions = [], []
    for axis, numbers in zip(frame.axes, index, strict=True):
        within = (numbers >= box.start[axis]) & (numbers < box.stop[axis])
        inside.append(np.flatnonzero(within))
        positions.append(numbers[within] - box.start[axis])
    rows, columns = np.ix_(*inside)
    from_rows, from_columns = np.ix_(*positions)
    pixels[..., rows, columns] = plane[..., from_rows, from_columns]
    return pixels


def affordable(volume: Volume, box: Box, budget: int = BUDGET) -> Box:
    """The middle of a box, as far as it can be read for `budget` bytes of chunks; at least one."""
    while True:
        touched = _touched_chunks(volume, box)
        sides = zyx(volume.chunk).minimum(volume.bounds.shape)
        chunk = math.prod(sides) * max(1, volume.channels) * volume.stored_dtype.itemsize
        if math.prod(touched) * chunk <= budget or max(touched) <= 1:
            return box
        box = halved(box, int(np.argmax(touched)))


def halved(box: Box, axis: int) -> Box:
    """The middle half of a box along an axis."""
    start, stop = list(box.start), list(box.stop)
    length = stop[axis] - start[axis]
    start[axis] += length // 4
    stop[axis] = start[axis] + max(1, length // 2)
    return Box(start, stop)


def _touched_chunks(volume: Volume, box: Box) -> Zyx:
    """Number of chunks along each axis that a box touches."""
    first = volume.bounds.start
    touched = -(-(box.stop - first) // volume.chunk) - (box.start - first) // volume.chunk
    return zyx([max(0, n) if side else 0 for n, side in zip(touched, box.shape, strict=True)])


def _fitting_scale(scales: Sequence[Volume], resolution: Resolution, frame: Frame) -> Volume:
    """The coarsest scale whose voxels are no larger than a pixel; otherwise the finest."""
    fitting = scales[0]
    for volume in scales[1:]:
        sides = volume.resolution or resolution
        if all(sides[axis] <= frame.pixel_nm * 1.01 for axis in frame.axes):
            fitting = volume
    return fitting


def _box(frame: Frame, section: int, index: Sequence[np.ndarray]) -> Box:
    """The voxels that a plane samples."""
    start, stop = [section] * 3, [section + 1] * 3
    for axis, numbers in zip(frame.axes, index, strict=True):
        start[axis], stop[axis] = int(numbers[0]), int(numbers[-1]) + 1
    return Box(start, stop)
