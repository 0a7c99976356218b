"""Tracks and the masks that they remember, as objects and as the columns of a stored record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from volflow.core.stage import Record
from volflow.track.follower import Remembered
from volflow.track.overlaps import windows

HALF = 128  # smallest stored probability that counts as part of an object


class Crop(NamedTuple):
    """A mask of one section, cut to the pixels that are not 0."""

    origin: tuple[int, int]
    """y and x in the tile."""
    mask: np.ndarray
    """uint8, (H, W), `round(255 p)`."""
    age: int
    """Sections since, without blank ones."""


@dataclass(frozen=True)
class Track:
    """An object that is being followed.

    Attributes
    ----------
    key : int
        From 1 in the order of birth within a chain; objects are processed in this order.
    id : int
        Its label; 0 until a voxel of it is written.
    missed : int
        Sections since it was last seen.
    crops : tuple of Crop
        The newest masks, the newest last; at least one.
    """

    key: int
    id: int = 0
    missed: int = 0
    crops: tuple[Crop, ...] = field(default=(), repr=False)

    def older(self) -> Track:
        """The track one section later."""
        return replace(self, crops=tuple(c._replace(age=c.age + 1) for c in self.crops))

    def seen(self, crop: Crop, memory: int) -> Track:
        """The track with one more mask, of which it remembers `memory`."""
        return replace(self, missed=0, crops=(*self.crops, crop)[-memory:])

    def remembered(self, reach: int, stride: int, shape: tuple[int, int], known: int) -> Remembered:
        """The masks in a window around the newest one.

        Parameters
        ----------
        reach : int
            Pixels around the newest mask.
        stride : int
            The window begins and ends at multiples of this.
        shape : (int, int)
            Sides of the tile; the window ends with the last multiple that covers it.
        known : int
            Sections that the follower has seen; older masks are left out, but not the newest.
        """
        newest = self.crops[-1]
        crops = [crop for crop in self.crops if crop.age <= known] or [newest]
        sides = zip(newest.origin, newest.mask.shape, shape, strict=True)
        ends = [
            (max(first - reach, 0) // stride, -(-min(first + n + reach, length) // stride))
            for first, n, length in sides
        ]
        (top, bottom), (left, right) = ends
        origin = (top * stride, left * stride)
        window = ((bottom - top) * stride, (right - left) * stride)
        masks = np.zeros((len(crops), *window), np.uint8)
        for mask, crop in zip(masks, crops, strict=True):
            offset = (crop.origin[0] - origin[0], crop.origin[1] - origin[1])
            here, inside = windows(offset, crop.mask.shape, window)
            mask[here] = crop.mask[inside]
        return Remembered(self.key, origin, masks, np.array([c.age for c in crops]))


def cropped(mask: np.ndarray, origin: tuple[int, int]) -> Crop:
    """A mask of the current section without the rows and columns of 0 around it.

    Parameters
    ----------
    mask : uint8, (H, W)
    origin : (int, int)
        y and x of the mask in the tile.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Crop(origin, np.zeros((0, 0), np.uint8), 0)
    y, x = int(rows[0]), int(columns[0])
    part = mask[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
    return Crop((origin[0] + y, origin[1] + x), part.copy(), 0)


def to_record(tracks: Sequence[Track], born: int) -> Record:
    """The state of a chain as columns: its live tracks, and the number of those born so far."""
    crops = [crop for track in tracks for crop in track.crops]
    rows = [(c.age, *c.origin, *c.mask.shape) for c in crops]
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    pixels = [crop.mask.ravel() for crop in crops]
    return {
        "born": np.array([born], np.int64),
        "key": np.array([track.key for track in tracks], np.int64),
        "id": np.array([track.id for track in tracks], np.uint64),
        "missed": np.array([track.missed for track in tracks], np.int64),
        "crops": np.array([len(track.crops) for track in tracks], np.int64),
        **dict(zip(("age", "y", "x", "height", "width"), columns.copy(), strict=True)),
        "pixels": np.concatenate([np.zeros(0, np.uint8), *pixels]),
    }


def from_record(record: Record) -> tuple[list[Track], int]:
    """The live tracks of a stored state, and the number of tracks born so far."""
    names = ("age", "y", "x", "height", "width")
    rows = zip(*(record[name].tolist() for name in names), strict=True)
    crops, first = [], 0
    for age, y, x, height, width in rows:
        last = first + height * width
        crops.append(Crop((y, x), record["pixels"][first:last].reshape(height, width), age))
        first = last
    tracks, first = [], 0
    for key, label, missed, count in zip(
        *(record[name].tolist() for name in ("key", "id", "missed", "crops")), strict=True
    ):
        tracks.append(Track(key, label, missed, tuple(crops[first : first + count])))
        first += count
    return tracks, int(record["born"][0])
