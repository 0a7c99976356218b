"""Boxes of the objects of a section: the 2D pieces of its labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

NEIGHBOURS = np.ones((3, 3), int)  # pixels that touch by a corner are connected


class Objects(NamedTuple):
    """Objects of a section.

    boxes : float32, (N, 4)
        y0, x0, y1, x1, half-open, pixels.
    identities : int64, (N,)
        Label of each object. Several pieces of one neurite share it.
    areas : int64, (N,)
        Pixels of each object.
    """

    boxes: np.ndarray
    identities: np.ndarray
    areas: np.ndarray


def objects_of(labels: np.ndarray, least_area: int = 1) -> Objects:
    """The objects of a section: 8-connected pieces of equal labels.

    Parameters
    ----------
    labels : integers, (Y, X)
        0 and below: no object.
    least_area : int
        Minimum area of a piece, pixels.

    Returns
    -------
    Objects
        Ordered by their first pixel.
    """
    pieces = pieces_of(labels)
    areas = np.bincount(pieces.ravel(), minlength=1)
    chosen = [
        (number, where)
        for number, where in enumerate(ndimage.find_objects(pieces), 1)
        if where is not None and areas[number] >= least_area
    ]
    boxes = [(y.start, x.start, y.stop, x.stop) for _, (y, x) in chosen]
    numbers = np.array([number for number, _ in chosen], np.int64)
    first = np.full(len(areas), 0, np.int64)
    flat = pieces.ravel()
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # the first pixel is written last
    identities = labels.ravel()[first[numbers]].astype(np.int64)
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), identities, areas[numbers])


def pieces_of(labels: np.ndarray) -> np.ndarray:
    """8-connected pieces of equal labels, numbered from 1 by their first pixel.

    Parameters
    ----------
    labels : integers, (Y, X)
        0 and below: no object.

    Returns
    -------
    int32, (Y, X)
        0: no object.
    """
    names, compact = np.unique(np.where(labels > 0, labels, 0), return_inverse=True)
    compact = compact.reshape(labels.shape).astype(np.int32) + np.int32(names[0] > 0)
    pieces = np.zeros(labels.shape, np.int32)
    count = 0
    for number, where in enumerate(ndimage.find_objects(compact), 1):
        if where is None:
            continue
        own, pieces_here = compact[where] == number, pieces[where]
        part, more = ndimage.label(own, NEIGHBOURS)
        pieces_here[own] = part[own] + count
        count += more
    return _in_order(pieces)


def _in_order(pieces: np.ndarray) -> np.ndarray:
    """The same pieces, renumbered from 1 by their first pixel."""
    present, first = np.unique(pieces, return_index=True)
    present, first = present[present > 0], first[present > 0]
    numbers = np.zeros(int(pieces.max(initial=0)) + 1, np.int32)
    numbers[present[np.argsort(first)]] = np.arange(1, len(present) + 1)
    renumbered: np.ndarray = numbers[pieces]
    return renumbered


def side_quantiles(boxes: np.ndarray, fractions: tuple[float, ...] = (0.05, 0.95)) -> list[float]:
    """Quantiles of the square root of the areas of boxes.

    Parameters
    ----------
    boxes : float, (N, 4)
    fractions : floats
        0 to 1.

    Raises
    ------
    ValueError
        If there are no boxes.
    """
    if not len(boxes):
        raise ValueError("expected at least one object in the sources; got none")
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return [float(value) for value in np.quantile(sides, fractions)]
