"""Meshes put together from rows: one for each fragment, and one for each count of voxels.

    columns     segment uint64 | level, z, y, x, voxels, triangles int64 | fragment bytes

A row of a fragment has its level and cell. A row that counts voxels has an empty fragment and the
level at which they were counted; -1: those of the volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from volflow.core.fragmented_mesh import MeshLevel, z_order
from volflow.core.geometry import Triple
from volflow.core.stage import Record
from volflow.shape.mesh_fragments import Fragment

NUMBERS = ("level", "z", "y", "x", "voxels", "triangles")
TABLE = ("segment", "voxels", "levels", "fragments", "triangles", "bytes")
OF_VOLUME = -1  # in place of a level
LEFT = 0.5  # a level has at least this share of the volume that the segment has at level 0


class SegmentRows(NamedTuple):
    """The rows of a segment.

    Attributes
    ----------
    segment : int
    voxels : int
        Of the volume.
    triangles : int
        At level 0.
    levels : tuple of MeshLevel
        The finest first; none: the segment has no surface at level 0.
    """

    segment: int
    voxels: int
    triangles: int
    levels: tuple[MeshLevel, ...]

    @property
    def table_row(self) -> dict[str, int]:
        """Its row of the table of meshes."""
        bodies = [body for level in self.levels for body in level.fragments]
        sizes = [len(body) for body in bodies if body]
        numbers = (len(self.levels), len(sizes), self.triangles, sum(sizes))
        return dict(zip(TABLE, (self.segment, self.voxels, *numbers), strict=True))


def size_rows(labels: np.ndarray, level: int) -> Record:
    """The rows that count the voxels of labels; 0 is background."""
    names, voxels = np.unique(labels, return_counts=True)
    if len(names) and names[0] == 0:
        names, voxels = names[1:], voxels[1:]
    numbers = {name: np.zeros(len(names), np.int64) for name in NUMBERS}
    numbers["level"][:], numbers["voxels"][:] = level, voxels
    fragments = np.full(len(names), b"", object)
    return {"segment": names.astype(np.uint64), **numbers, "fragment": fragments}


def fragment_rows(fragments: Sequence[tuple[Triple, Fragment]], level: int) -> Record:
    """The rows of fragments, each with its cell."""
    count = len(fragments)
    cells = np.array([cell for cell, _ in fragments], np.int64).reshape(-1, 3)
    bodies = np.empty(count, object)
    bodies[:] = [fragment.body for _, fragment in fragments]
    return {
        "segment": np.array([fragment.label for _, fragment in fragments], np.uint64),
        "level": np.full(count, level, np.int64),
        **{name: cells[:, axis] for axis, name in enumerate("zyx")},
        "voxels": np.zeros(count, np.int64),
        "triangles": np.array([fragment.triangles for _, fragment in fragments], np.int64),
        "fragment": bodies,
    }


def joined(*parts: Record) -> Record:
    """The rows of several records."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ordered(rows: Record) -> Record:
    """Rows by segment, level and cell; counts of the same voxels are one row."""
    if not rows:
        return size_rows(np.zeros(0, np.uint64), 0)
    counts = rows["fragment"] == b""
    order = np.lexsort([rows[name] for name in ("x", "y", "z", "level", "segment")])
    of_fragments = {name: column[order[~counts[order]]] for name, column in rows.items()}
    sizes = {name: column[order[counts[order]]] for name, column in rows.items()}
    changed = np.zeros(len(sizes["segment"]), bool)
    changed[:1] = True
    for name in ("segment", "level"):
        changed[1:] |= sizes[name][1:] != sizes[name][:-1]
    first = np.flatnonzero(changed)
    summed = {name: column[first] for name, column in sizes.items()}
    if len(first):
        summed["voxels"] = np.add.reduceat(sizes["voxels"], first)
    return joined(summed, of_fragments)


def segments_of(rows: Record) -> Iterator[SegmentRows]:
    """The segments of some rows, ascending."""
    order = np.argsort(rows["segment"], kind="stable")
    names, first = np.unique(rows["segment"][order], return_index=True)
    for name, own in zip(names.tolist(), np.split(order, first[1:]), strict=True):
        yield _segment(name, {column: rows[column][own] for column in rows})


def _segment(name: int, rows: Record) -> SegmentRows:
    counts = rows["fragment"] == b""
    voxels: dict[int, int] = {}
    for level, number in zip(rows["level"][counts], rows["voxels"][counts], strict=True):
        voxels[int(level)] = voxels.get(int(level), 0) + int(number)
    stored = [
        _level({column: rows[column][~counts & (rows["level"] == level)] for column in rows})
        for level in range(_last_level(voxels) + 1)
    ]
    while stored and not stored[-1].fragments:
        stored.pop()
    if stored and not stored[0].fragments:
        stored = []
    for level in range(1, len(stored)):
        stored[level] = with_parents(stored[level], stored[level - 1].cells)
    finest = ~counts & (rows["level"] == 0)
    total = int(rows["triangles"][finest].sum())
    return SegmentRows(name, voxels.get(OF_VOLUME, voxels.get(0, 0)), total, tuple(stored))


def _last_level(voxels: Mapping[int, int]) -> int:
    """The last level up to which enough of a segment is left."""
    last = 0
    while voxels.get(last + 1, 0) * 8 ** (last + 1) >= LEFT * voxels.get(0, 0) > 0:
        last += 1
    return last


def _level(rows: Record) -> MeshLevel:
    cells = np.stack([rows["z"], rows["y"], rows["x"]], axis=1)
    order = z_order(cells)
    return MeshLevel(cells[order], tuple(rows["fragment"][order].tolist()))


def with_parents(level: MeshLevel, finer: np.ndarray) -> MeshLevel:
    """A level that has the parents of all cells of the finer one, empty where it has no surface."""
    bodies = {
        tuple(cell): body for cell, body in zip(level.cells.tolist(), level.fragments, strict=True)
    }
    for cell in np.unique(finer // 2, axis=0).tolist():
        bodies.setdefault(tuple(cell), b"")
    cells = np.array(list(bodies), np.int64).reshape(-1, 3)
    order = z_order(cells)
    fragments = list(bodies.values())
    return MeshLevel(cells[order], tuple(fragments[number] for number in order.tolist()))


def mesh_table(rows: Sequence[Mapping[str, int]]) -> Record:
    """The columns of the table of meshes."""
    return {
        name: np.array([row[name] for row in rows], np.uint64 if name == "segment" else np.int64)
        for name in TABLE
    }
