"""Labels of a chain beyond the voxels that it writes, and their overlaps with other chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Record

ROWS = (
    ("run", "int64"),
    ("z", "int64"),
    ("y", "int64"),
    ("x", "int64"),
    ("length", "int64"),
    ("label", "uint64"),
)
"""Columns of labels beyond a chain's voxels: `length` voxels along x from z, y, x on."""

COUNTS = {
    "pair": (("a", "uint64"), ("b", "uint64"), ("voxels", "int64")),
    "area": (("id", "uint64"), ("run", "int64"), ("z", "int64"), ("voxels", "int64")),
    "extent": (("id", "uint64"), ("run", "int64"), ("first", "int64"), ("last", "int64")),
}
"""Tables of overlaps: voxels of pairs of tracks; voxels of a track in a section, where it is shared
with another run; first and last section of a track, and its run."""


def rows_beyond(labels: np.ndarray, box: Box, write: Box, run: int) -> Record:
    """The labels of a chain outside the box that it writes, as rows of voxels along x.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        0 is background.
    box, write : Box
        The box of `labels`, and the box whose voxels are left out.
    run : int
        Number of the chain's run.
    """
    outside = labels.copy()
    outside[write.clip(box).within(box)] = 0
    changes = np.ones(outside.shape, bool)
    changes[..., 1:] = outside[..., 1:] != outside[..., :-1]
    starts = np.flatnonzero(changes.ravel())
    lengths = np.diff(np.append(starts, outside.size))
    names = outside.ravel()[starts]
    chosen = names != 0
    z, y, x = np.unravel_index(starts[chosen], outside.shape)
    count = int(chosen.sum())
    return {
        "run": np.full(count, run, np.int64),
        "z": z.astype(np.int64) + box.start[0],
        "y": y.astype(np.int64) + box.start[1],
        "x": x.astype(np.int64) + box.start[2],
        "length": lengths[chosen].astype(np.int64),
        "label": names[chosen],
    }


def overlaps_beyond(
    rows: Record, labels: np.ndarray, box: Box, grid: BlockGrid, back: int
) -> Record:
    """Overlaps of the labels of `rows` with those that the other chains wrote there.

    Parameters
    ----------
    rows : record
        From `rows_beyond`, of one chain.
    labels : uint64, (Z, Y, X)
        The labels that are written, of the same direction.
    box : Box
        The box of `labels`.
    grid : BlockGrid
        The boxes of the chains: one is a slab of a tile.
    back : int
        Added to the number of a box, which gives the number of its run: 0, or the number of boxes
        for a second run in the other direction.

    Raises
    ------
    ValueError
        If a row is outside the box.
    """
    z, y, x = (np.repeat(rows[name], rows["length"]) for name in "zyx")
    ends = np.cumsum(rows["length"])
    x = x + np.arange(len(x)) - np.repeat(ends - rows["length"], rows["length"])
    at = [c - first for c, first in zip((z, y, x), box.start, strict=True)]
    for place, side, axis in zip(at, box.shape, "zyx", strict=True):
        if len(place) and (place.min() < 0 or place.max() >= side):
            raise ValueError(
                f"labels beyond the tile reach further along {axis} than those that are read; "
                f"slab_overlap and margin must be those of the step `track`"
            )
    other = labels[at[0], at[1], at[2]]
    own = np.repeat(rows["label"], rows["length"])
    run = np.repeat(rows["run"], rows["length"])
    return shared_voxels(own, other, run, back + run_numbers((z, y, x), grid), z)


def run_numbers(voxels: Sequence[np.ndarray], grid: BlockGrid) -> np.ndarray:
    """The number of the box that contains each voxel, int64; z, y, x are arrays of one shape."""
    start, sides = grid.bounds.start, grid.shape
    z, y, x = ((v - s) // n for v, s, n in zip(voxels, start, sides, strict=True))
    numbers: np.ndarray = (z * grid.counts[1] + y) * grid.counts[2] + x
    return numbers


def shared_voxels(
    a: np.ndarray, b: np.ndarray, run_a: np.ndarray, run_b: np.ndarray, z: np.ndarray
) -> Record:
    """The tables `pair` and `area` of voxels that two runs have labelled.

    Parameters
    ----------
    a, b : uint64, (N,)
        The labels of both runs; 0 is background.
    run_a, run_b : int64, (N,)
        The numbers of the runs.
    z : int64, (N,)
    """
    one = np.ones(len(a), np.int64)
    both = (a != 0) & (b != 0)
    flipped = b < a
    pairs = {
        "a": np.where(flipped, b, a)[both],
        "b": np.where(flipped, a, b)[both],
        "voxels": one[both],
    }
    ids, runs = np.concatenate([a, b]), np.concatenate([run_b, run_a])
    areas = {"id": ids, "run": runs, "z": np.tile(z, 2), "voxels": np.tile(one, 2)}
    areas = {name: column[ids != 0] for name, column in areas.items()}
    return pooled({**_prefixed("pair", pairs), **_prefixed("area", areas)})


def extents(labels: np.ndarray, box: Box, grid: BlockGrid, back: int) -> Record:
    """The table `extent` of the labels of a box within one slab and tile."""
    run = back + grid.number(grid.touching(box)[0])
    planes = [np.unique(plane[plane != 0]) for plane in labels]
    ids = np.concatenate([np.zeros(0, np.uint64), *planes])
    z = np.repeat(np.arange(box.start[0], box.stop[0]), [len(names) for names in planes])
    columns = {"id": ids, "run": np.full(len(ids), run, np.int64), "first": z, "last": z}
    return pooled(_prefixed("extent", columns))


def pooled(*records: Record) -> Record:
    """One record with all tables of several: equal rows added up, in the order of their keys."""
    result: Record = {}
    for table, columns in COUNTS.items():
        parts = [
            [record[f"{table}.{name}"] for name, _ in columns]
            for record in records
            if f"{table}.{columns[0][0]}" in record
        ]
        empty = [np.zeros(0, dtype) for _, dtype in columns]
        values = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
        result |= _prefixed(table, _pooled(dict(zip([n for n, _ in columns], values, strict=True))))
    return result


def _pooled(table: Record) -> Record:
    """A table whose rows of equal keys are one: voxels are added up, extents united."""
    keys = [name for name in table if name not in ("voxels", "first", "last")]
    order = np.lexsort([table[name] for name in reversed(keys)])
    table = {name: column[order] for name, column in table.items()}
    if not len(order):
        return table
    changed = np.any([table[name][1:] != table[name][:-1] for name in keys], axis=0)
    starts = np.flatnonzero(np.concatenate([[True], changed]))
    unite = {"voxels": np.add, "first": np.minimum, "last": np.maximum}
    return {
        name: unite[name].reduceat(column, starts) if name in unite else column[starts]
        for name, column in table.items()
    }


def _prefixed(table: str, columns: Record) -> Record:
    return {f"{table}.{name}": column for name, column in columns.items()}
