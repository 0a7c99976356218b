"""The levels of a spatial index of annotations: which annotation is in which cells of which level.

Level 0 is one cell, the bounds. Each further level halves the longest sides. An annotation is in
one level, and there in every cell that it crosses; no cell has more than `limit` annotations, but
for those of the last level. Over a level, annotations are a uniform sample of those that coarser
levels leave: the order in which they are taken is that of a hash of their ids, so it depends on
nothing else.

    level 0    [        a        ]
    level 1    [   b   ][ b    c ]     b crosses both cells
    level 2    [ d ][  ][  ][ e  ]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.geometry import Box, Triple

LIMIT = 5000  # annotations in a cell: 150 to 400 kB
MOST_LEVELS = 21  # 2**20 cells along an axis; the number of a cell has at most 63 bits
_TOUCH = 1e-12  # of a line's length: one that only touches a cell is in it
_CORNERS = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.int64)


class Level(NamedTuple):
    """One level.

    Attributes
    ----------
    bits : (int, int, int)
        There are `2 ** bits` cells along z, y, x.
    cell : int64 array, (P, 3)
        Cells z, y, x, those of one cell in succession.
    row : int64 array, (P,)
        The annotation in it; within a cell in the order of `sampling_order`.
    """

    bits: Triple
    cell: np.ndarray
    row: np.ndarray


def sampling_order(ids: np.ndarray) -> np.ndarray:
    """The place of each id in an order without meaning, which depends on the ids alone; int64."""
    mixed = np.asarray(ids, np.uint64).copy()
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # finaliser of splitmix64, a bijection
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    place = np.empty(len(mixed), np.int64)
    place[np.argsort(mixed)] = np.arange(len(mixed))
    return place


def levels(annotations: AnnotationSet, bounds: Box, limit: int = LIMIT) -> Iterator[Level]:
    """The levels of the index, the coarsest first; at least one.

    Parameters
    ----------
    annotations : AnnotationSet
    bounds : Box
        The voxels of the index; annotations outside count as at its faces.
    limit : int
        Largest number of annotations in a cell, at least 1.
    """
    order = sampling_order(annotations.ids)
    ends = _normalized(annotations, bounds)
    row = np.arange(len(annotations), dtype=np.int64)
    cell = np.zeros((len(row), 3), np.int64)
    bits = (0, 0, 0)
    sides = [n * r for n, r in zip(bounds.shape, annotations.resolution, strict=True)]
    for number in range(MOST_LEVELS):
        key = _cell_number(cell, bits)
        sorting = np.lexsort((order[row], key))
        row, cell, key = row[sorting], cell[sorting], key[sorting]
        last = number == MOST_LEVELS - 1
        first = _first_left(key, order[row], limit) if not last else len(order)
        taken = order[row] < first
        yield Level(bits, cell[taken], row[taken])
        row, cell = row[~taken], cell[~taken]
        if not len(row):
            return
        finer = _halved(bits, sides)
        row, cell = _children(ends, row, cell, bits, finer)
        bits = finer


def _normalized(annotations: AnnotationSet, bounds: Box) -> np.ndarray:
    """The ends, 0 to 1 along each axis of the bounds; float64 (N, ends, 3)."""
    stored = annotations.position.astype(np.float32).astype(np.float64)  # as the format holds them
    scaled = (stored - np.array(bounds.start)) / np.array(bounds.shape)
    return np.asarray(np.clip(scaled, 0, np.nextafter(1.0, 0.0)))


def _cell_number(cell: np.ndarray, bits: Triple) -> np.ndarray:
    """One number for each cell, in the order of z, y, x."""
    return np.asarray((cell[:, 0] << (bits[1] + bits[2])) | (cell[:, 1] << bits[2]) | cell[:, 2])


def _first_left(key: np.ndarray, place: np.ndarray, limit: int) -> int:
    """The first place in the order at which a cell has more than `limit` annotations.

    `key` and `place` are sorted by both.
    """
    begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else key
    sizes = np.diff(np.append(begins, len(key)))
    full = begins[sizes > limit] + limit
    return int(place[full].min()) if len(full) else int(place.max(initial=-1)) + 1


def _halved(bits: Triple, sides: list[float]) -> Triple:
    """Bits of the next level: all axes along which cells are longer than half of the longest."""
    lengths = [side / (1 << n) for side, n in zip(sides, bits, strict=True)]
    longest = max(lengths)
    z, y, x = (n + (2 * length > longest) for n, length in zip(bits, lengths, strict=True))
    return z, y, x


def _children(
    ends: np.ndarray, row: np.ndarray, cell: np.ndarray, bits: Triple, finer: Triple
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cells of the next level: the children of each cell that its annotation crosses."""
    halved = np.array(finer) - np.array(bits)
    scale = np.exp2(np.array(finer, np.float64))
    if ends.shape[1] == 1:
        return row, np.floor(ends[row, 0] * scale).astype(np.int64)
    corners = _CORNERS[(halved >= _CORNERS).all(axis=1)]
    rows, cells = [], []
    for corner in corners:
        child = cell * (1 + halved) + corner
        crossed = _crosses(ends[row] * scale, child)
        rows.append(row[crossed])
        cells.append(child[crossed])
    return np.concatenate(rows), np.concatenate(cells)


def _crosses(line: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Whether a line has a point in a cell, bool (N,).

    Parameters
    ----------
    line : float64, (N, 2, 3)
        Ends in units of cells.
    cell : int64, (N, 3)
        The cell reaches from these numbers to the next ones.
    """
    first, last = line[:, 0], line[:, 1]
    low, high = np.floor(np.minimum(first, last)), np.floor(np.maximum(first, last))
    inside = ((cell >= low) & (cell <= high)).all(axis=1)
    enter, leave = np.zeros(len(cell)), np.ones(len(cell))
    for axis in range(3):
        start, step = first[:, axis], last[:, axis] - first[:, axis]
        moves = step != 0
        step = np.where(moves, step, 1.0)
        to_low, to_high = (cell[:, axis] - start) / step, (cell[:, axis] + 1 - start) / step
        enter = np.where(moves, np.maximum(enter, np.minimum(to_low, to_high)), enter)
        leave = np.where(moves, np.minimum(leave, np.maximum(to_low, to_high)), leave)
    return np.asarray(inside & (enter <= leave + _TOUCH))
