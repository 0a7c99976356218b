"""Rows of a table as annotations: which columns are positions, properties and segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.geometry import Resolution

Columns = dict[str, np.ndarray]

AXES = ("z", "y", "x")
SITES = {"line": (("pre_",), ("post_",)), "point": (("", "cleft_"),)}
"""Beginnings of the names of the columns of each end, the preferred one first."""
IDS = ("synapse_id", "object_id", "id")
PROPERTIES = ("score", "pre_score", "post_score", "size_vox", "area_nm2", "share")
RELATIONS = ("pre", "post", "pre_neuron", "post_neuron", "segment")


def column_problems(
    dtypes: Mapping[str, str],
    kind: str,
    properties: Sequence[str] | None,
    relations: Sequence[str] | None,
) -> list[str]:
    """Columns that annotations need and a table lacks, one sentence each.

    Parameters
    ----------
    dtypes : mapping of str to str
        The types of the table's columns of numbers.
    kind : str
        `line` or `point`.
    properties, relations : sequence of str, optional
        Columns that are asked for.
    """
    known = ", ".join(dtypes)
    problems = [
        f"kind: {kind}: expected columns {', '.join(start + axis for axis in AXES)} in nm; the "
        f"table has {known}"
        for starts in SITES[kind]
        for start in starts[:1]
        if _site(dtypes, starts) is None
    ]
    for place, names in (("properties", properties), ("relations", relations)):
        problems += [
            f"{place}: the table has no column of numbers '{name}' (columns: {known})"
            for name in names or ()
            if name not in dtypes
        ]
    for name in relations or [name for name in RELATIONS if name in dtypes]:
        if dtypes.get(name, "uint64") not in ("uint64", "int64"):
            problems.append(
                f"relations: expected whole numbers of segments in '{name}', got {dtypes[name]}"
            )
    return problems


def annotated_rows(
    table: Mapping[str, np.ndarray],
    kind: str,
    resolution: Resolution,
    properties: Sequence[str] | None = None,
    relations: Sequence[str] | None = None,
    segments: Sequence[int] | None = None,
) -> Columns:
    """The rows of a table in the columns of `annotation_set`.

    Parameters
    ----------
    table : mapping of str to array, (N,)
        Positions in nm; voxel v is at v times its side.
    kind : str
        `line` or `point`.
    resolution : 3 float
        Nanometres per voxel, z y x.
    properties, relations : sequence of str, optional
        Columns; default: those of `PROPERTIES` and `RELATIONS` that the table has.
    segments : sequence of int, optional
        The segments whose rows are returned; default: all rows.

    Returns
    -------
    columns, each (N,)
        `id` (uint64, 0 if the table has no id of its own for each row); `end0_z` ... in voxels,
        voxel v reaching from v to v + 1; `property:NAME` (float32); `relation:NAME` (uint64).

    Raises
    ------
    ValueError
        If a segment is negative.
    """
    count = len(next(iter(table.values()))) if table else 0
    rows: Columns = {"id": _own_ids(table, count)}
    for end, starts in enumerate(SITES[kind]):
        start = _site(table, starts)
        for axis, side in zip(AXES, resolution, strict=True):
            middle = np.asarray(table[f"{start}{axis}"], np.float64) / side + 0.5
            rows[f"end{end}_{axis}"] = middle
    for name in _chosen(table, properties, PROPERTIES):
        rows[f"property:{name}"] = np.asarray(table[name]).astype(np.float32)
    for name in _chosen(table, relations, RELATIONS):
        column = np.asarray(table[name])
        if column.dtype.kind != "u" and (column < 0).any():
            raise ValueError(f"{name}: expected segments from 0 on, got {int(column.min())}")
        rows[f"relation:{name}"] = column.astype(np.uint64)
    if segments is None:
        return rows
    wanted = np.zeros(count, bool)
    for name, column in rows.items():
        if name.startswith("relation:"):
            wanted |= np.isin(column, np.array(segments, np.uint64))
    return {name: column[wanted] for name, column in rows.items()}


def sorted_rows(rows: Columns) -> Columns:
    """The rows in an order that depends on their content alone."""
    order = np.lexsort([rows[name] for name in reversed(rows)])
    return {name: column[order] for name, column in rows.items()}


def annotation_set(rows: Columns, kind: str, resolution: Resolution) -> AnnotationSet:
    """The annotations of `sorted_rows`, which may have no columns."""
    count = len(rows["id"]) if rows else 0
    ids = rows["id"] if rows else np.zeros(0, np.uint64)
    if count and (ids[0] == 0 or (ids[1:] == ids[:-1]).any()):  # none, or shared by some rows
        ids = np.arange(1, count + 1, dtype=np.uint64)
    ends = len(SITES[kind])
    position = np.zeros((count, ends, 3))
    for end in range(ends if rows else 0):
        for number, axis in enumerate(AXES):
            position[:, end, number] = rows[f"end{end}_{axis}"]
    return AnnotationSet(
        kind,  # type: ignore[arg-type]  # a key of SITES
        ids,
        position,
        resolution,
        _named(rows, "property:"),
        _named(rows, "relation:"),
    )


def _site(table: Mapping[str, object], starts: Sequence[str]) -> str | None:
    """The first beginning of names for which the table has all three columns."""
    whole = (start for start in starts if all(f"{start}{axis}" in table for axis in AXES))
    return next(whole, None)


def _own_ids(table: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    for name in IDS:
        if name in table and np.asarray(table[name]).dtype.kind == "u":
            return np.asarray(table[name], np.uint64)
    return np.zeros(count, np.uint64)


def _chosen(
    table: Mapping[str, np.ndarray], given: Sequence[str] | None, usual: Sequence[str]
) -> list[str]:
    return list(given) if given is not None else [name for name in usual if name in table]


def _named(rows: Columns, start: str) -> Columns:
    return {n.removeprefix(start): column for n, column in rows.items() if n.startswith(start)}
