"""First masks of objects: segments of a section, painted labels, points and boxes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Seed(NamedTuple):
    """The first mask of an object that is to be followed."""

    origin: tuple[int, int]
    """y and x of its window in the tile."""
    mask: np.ndarray
    """bool, (H, W)."""
    id: int = 0
    """Its label; 0: named after the first voxel that is written."""


def unclaimed(segments: np.ndarray, keys: np.ndarray, claimed: float, min_area: int) -> list[Seed]:
    """The segments of a section of which no large share belongs to tracks.

    Parameters
    ----------
    segments : int32, (Y, X)
        Numbered from 1; 0 is background.
    keys : int64, (Y, X)
        Tracks; 0 is background.
    claimed : float
        Largest share of a segment that belongs to tracks.
    min_area : int
        Smallest area that is left, in pixels.
    """
    area = np.bincount(segments.ravel())
    left = np.bincount(segments[keys == 0], minlength=len(area))
    chosen = (area - left <= claimed * area) & (left >= min_area)
    chosen[0] = False
    return [
        seed._replace(id=0) for seed in seeds_of_labels(np.where(chosen[segments], segments, 0))
    ]


def seeds_of_labels(labels: np.ndarray) -> list[Seed]:
    """A seed for each label of a section, ascending; its label is its id.

    Parameters
    ----------
    labels : integers, (Y, X)
        0 is background.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(labels.shape)
    if len(names) and names[0] != 0:
        names, numbers = np.concatenate([[0], names]), numbers + 1
    boxes = ndimage.find_objects(numbers)
    return [
        Seed((box[0].start, box[1].start), numbers[box] == number, int(names[number]))
        for number, box in enumerate(boxes, 1)
    ]


def components(mask: np.ndarray) -> np.ndarray:
    """Connected components of a section, int32 from 1; pixels are connected across edges."""
    return np.asarray(ndimage.label(mask)[0], np.int32)


def segment_at(segments: np.ndarray, point: tuple[int, int], reach: int) -> Seed | None:
    """The segment at a point, or the one nearest to it; None if there is none within reach.

    Parameters
    ----------
    segments : int32, (Y, X)
    point : (int, int)
        y and x.
    reach : int
        Pixels, along y and x. Of several segments at the same distance the smallest counts.
    """
    y, x = point
    top, left = max(y - reach, 0), max(x - reach, 0)
    near = segments[top : y + reach + 1, left : x + reach + 1]
    rows, columns = np.nonzero(near)
    if not len(rows):
        return None
    distance = (rows + top - y) ** 2 + (columns + left - x) ** 2
    labels = near[rows, columns]
    label = int(labels[np.lexsort((labels, distance))[0]])
    return _window(segments == label)


def segment_in(segments: np.ndarray, box: tuple[int, int, int, int]) -> Seed | None:
    """The segment with the largest overlap with a box; None if the box has none.

    The overlap is intersection over union, of the box and the segment; the smallest of equal ones
    counts.

    Parameters
    ----------
    segments : int32, (Y, X)
    box : (int, int, int, int)
        y and x of the first pixel, y and x after the last.
    """
    y, x, end_y, end_x = box
    inside = segments[max(y, 0) : end_y, max(x, 0) : end_x]
    shared = np.bincount(inside.ravel())
    shared[:1] = 0
    if not shared.any():
        return None
    area = np.bincount(segments.ravel())[: len(shared)]
    union = area + (end_y - y) * (end_x - x) - shared
    return _window(segments == int(np.argmax(shared / union)))


def _window(mask: np.ndarray) -> Seed:
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    return Seed((box[0].start, box[1].start), mask[box])
