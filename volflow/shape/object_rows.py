"""Rows of objects and segments, block by block; rows of blocks add up.

An object and a segment share voxels; an object is in the segment that has most of its voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from volflow.core.geometry import Box, Resolution

Columns = dict[str, np.ndarray]

AXES = ("z", "y", "x")
FIRST, LAST = ("z0", "y0", "x0"), ("z1", "y1", "x1")
SUMS = ("voxels", *AXES)
OBJECTS = (
    ("object_id", "uint64"),
    ("segment", "uint64"),
    *((axis, "float64") for axis in AXES),
    ("size_vox", "int64"),
    ("share", "float64"),
    *((name, "int64") for name in (*FIRST, *LAST)),
)
"""Columns of the table of objects, and their types."""


def object_rows(write: Box, labels: np.ndarray, segments: np.ndarray | None) -> Columns:
    """A row for each pair of an object and a segment with common voxels in a block.

    Parameters
    ----------
    write : Box
        The voxels of the arrays.
    labels, segments : integers, (Z, Y, X)
        Objects, of which 0 is none, and the segments around them; without these, all are 0.

    Returns
    -------
    columns, each (N,)
        `object` and `segment` (uint64); `voxels`, sums of coordinates and half-open box (int64).
    """
    place = np.nonzero(labels)
    own = labels[place].astype(np.uint64)
    other = np.zeros(len(own), np.uint64) if segments is None else segments[place].astype("uint64")
    voxels: Columns = {"object": own, "segment": other, "voxels": np.ones(len(own), np.int64)}
    for axis, name in enumerate(AXES):
        at = place[axis].astype(np.int64) + write.start[axis]
        voxels |= {name: at, FIRST[axis]: at, LAST[axis]: at + 1}
    return pooled(voxels, ("object", "segment"))


def pooled(rows: Mapping[str, np.ndarray], key: Sequence[str]) -> Columns:
    """Rows with equal keys as one, in their order: boxes united, all other columns summed."""
    order = np.lexsort([rows[name] for name in reversed(key)])
    columns = {name: column[order] for name, column in rows.items()}
    new = np.zeros(len(order), bool)
    new[:1] = True
    for name in key:
        new[1:] |= columns[name][1:] != columns[name][:-1]
    starts = np.flatnonzero(new)
    united: Columns = {}
    for name, column in columns.items():
        if name in key:
            united[name] = column[starts]
        else:
            pool = np.minimum if name in FIRST else np.maximum if name in LAST else np.add
            united[name] = pool.reduceat(column, starts) if len(starts) else column
    return united


def object_table(rows: Columns, resolution: Resolution) -> Columns:
    """The table of objects from all rows of each, pooled by object and segment.

    Returns
    -------
    columns of OBJECTS, each (N,)
        `segment` is the one with most voxels of the object, the smallest id of equal ones, and
        `share` its part of the object; 0 if no voxel is in a segment. `z`, `y`, `x` are the middle
        in nm: voxel v is at v times its side.
    """
    whole = {name: column for name, column in rows.items() if name != "segment"}
    table = pooled(whole, ("object",))
    inside = np.flatnonzero(rows["segment"] > 0)
    best = inside[np.lexsort((rows["segment"][inside], -rows["voxels"][inside]))]
    names, first = np.unique(rows["object"][best], return_index=True)
    at = np.searchsorted(table["object"], names)
    segment, voxels = np.zeros(len(table["object"]), np.uint64), np.zeros(len(table["object"]))
    segment[at], voxels[at] = rows["segment"][best[first]], rows["voxels"][best[first]]
    size = table["voxels"]
    sides = zip(AXES, resolution, strict=True)
    return {
        "object_id": table["object"],
        "segment": segment,
        **{axis: table[axis] / size * side for axis, side in sides},
        "size_vox": size,
        "share": voxels / size,
        **{name: table[name] for name in (*FIRST, *LAST)},
    }
