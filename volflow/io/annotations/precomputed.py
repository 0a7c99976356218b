"""Annotations in Neuroglancer's precomputed format, whose axes are x, y, z; all in shards.

    info                     dimensions, properties, relations, levels of the spatial index
    by_id/0.shard            each annotation: geometry, properties, segments
    RELATION/0.shard         of each segment: the annotations that belong to it
    spatial0/0.shard         of each cell of a level: the annotations that cross it; see
                             `spatial_index`

A list is their number (uint64), geometry (float32) and properties of each, then the ids of all.
Nothing is compressed: floats would become a fifth smaller, and take three times as long to write.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.geometry import Box, Triple
from volflow.io.annotations.spatial_index import LIMIT, Level, levels
from volflow.io.uint64_shards import ShardLayout, index_of_records

TYPE = "neuroglancer_annotations_v1"
SHARD_BYTES = 1 << 28  # of a shard; more shards where an index has more bytes
PER_MINISHARD = 1 << 10  # annotations whose index a reader of one of them reads
SEGMENTS_PER_MINISHARD = 1 << 6
ROWS_AT_ONCE = 1 << 16
_COUNT = struct.Struct("<Q")


def files(
    annotations: AnnotationSet, bounds: Box, limit: int = LIMIT
) -> Iterator[tuple[str, bytes]]:
    """The files of a set of annotations by key, `info` last; bytes depend on the set alone.

    Parameters
    ----------
    annotations : AnnotationSet
        In any order.
    bounds : Box
        The voxels of the spatial index, at least one; annotations outside count as at its faces.
    limit : int
        Largest number of annotations in a cell of the spatial index.
    """
    if limit < 1:
        raise ValueError(f"limit: expected at least 1 annotation in a cell; got {limit}")
    annotations = _by_id(annotations)
    records = _records(annotations)
    layout, shards = _by_id_shards(annotations, records)
    info = _info(annotations, bounds, layout)
    yield from shards
    for name, segments in annotations.relationships.items():
        layout, bodies = _related(annotations.ids, records, segments)
        info["relationships"].append(_index({"id": name, "key": f"relation_{name}"}, layout))
        yield from _shards(f"relation_{name}", layout, bodies)
    for number, level in enumerate(levels(annotations, bounds, limit)):
        bodies = dict(_cells(annotations.ids, records, level))
        layout = _layout(sum(map(len, bodies.values())), len(bodies), SEGMENTS_PER_MINISHARD)
        info["spatial"].append(_level_info(bounds, level, number, limit, layout))
        yield from _shards(f"spatial{number}", layout, bodies)
    yield "info", json.dumps(info, indent=1).encode()


def _by_id(annotations: AnnotationSet) -> AnnotationSet:
    """The annotations in ascending order of their ids."""
    order = np.argsort(annotations.ids, kind="stable")
    return AnnotationSet(
        annotations.kind,
        annotations.ids[order],
        annotations.position[order],
        annotations.resolution,
        {name: column[order] for name, column in annotations.properties.items()},
        {name: column[order] for name, column in annotations.relationships.items()},
    )


def _records(annotations: AnnotationSet) -> np.ndarray:
    """Geometry and properties of each annotation, uint8 (N, bytes), whole words of four bytes."""
    count, ends, axes = annotations.position.shape
    geometry = annotations.position[..., ::-1].astype("<f4").reshape(count, ends * axes)
    columns = [column.astype(column.dtype.newbyteorder("<")) for _, column in _stored(annotations)]
    parts = [
        geometry.view(np.uint8).reshape(count, 4 * ends * axes),
        *(_bytes_of(column) for column in columns),
    ]
    size = sum(part.shape[1] for part in parts)
    padding = np.zeros((count, -size % 4), np.uint8)
    return np.ascontiguousarray(np.concatenate([*parts, padding], axis=1))


def _stored(annotations: AnnotationSet) -> list[tuple[str, np.ndarray]]:
    """Properties in the order in which they are stored: wide types first."""
    return sorted(annotations.properties.items(), key=lambda item: -item[1].dtype.itemsize)


def _bytes_of(column: np.ndarray) -> np.ndarray:
    """The bytes of each value, uint8 (N, bytes)."""
    packed = np.ascontiguousarray(column)
    return packed.view(np.uint8).reshape(len(column), column.dtype.itemsize)


# --- info ----------------------------------------------------------------------------------------


def _info(annotations: AnnotationSet, bounds: Box, layout: ShardLayout) -> dict[str, Any]:
    """The content of `info`, without relationships and levels."""
    sides = zip("xyz", annotations.resolution[::-1], strict=True)
    properties = [{"id": name, "type": column.dtype.name} for name, column in _stored(annotations)]
    return {
        "@type": TYPE,
        "dimensions": {axis: [side * 1e-9, "m"] for axis, side in sides},
        "lower_bound": [float(n) for n in bounds.start[::-1]],
        "upper_bound": [float(n) for n in bounds.stop[::-1]],
        "annotation_type": annotations.kind.upper(),  # cloud-volume reads no small letters
        "properties": properties,
        "relationships": [],
        "by_id": _index({"key": "by_id"}, layout),
        "spatial": [],
    }


def _level_info(
    bounds: Box, level: Level, number: int, limit: int, layout: ShardLayout
) -> dict[str, Any]:
    grid = [1 << n for n in level.bits[::-1]]
    sides = zip(bounds.shape[::-1], grid, strict=True)
    entry = {
        "key": f"spatial{number}",
        "grid_shape": grid,
        "chunk_size": [side / count for side, count in sides],
        "limit": limit,
    }
    return _index(entry, layout)


def _index(entry: dict[str, Any], layout: ShardLayout) -> dict[str, Any]:
    return {**entry, "sharding": layout.metadata}


# --- by id ---------------------------------------------------------------------------------------


def _by_id_shards(
    annotations: AnnotationSet, records: np.ndarray
) -> tuple[ShardLayout, Iterator[tuple[str, bytes]]]:
    """Each annotation with its segments, as it is looked up by id."""
    total = (records.shape[1] + 12 * len(annotations.relationships)) * len(annotations)
    layout = _layout(total, len(annotations), PER_MINISHARD)
    return layout, _raw_shards("by_id", annotations, records, layout)


def _raw_shards(
    key: str, annotations: AnnotationSet, records: np.ndarray, layout: ShardLayout
) -> Iterator[tuple[str, bytes]]:
    related = list(annotations.relationships.values())
    sizes = np.full(len(annotations), records.shape[1] + 4 * len(related), np.int64)
    sizes += sum(8 * (segments > 0) for segments in related)
    shard = layout.shard_of(annotations.ids)
    minishard = layout.minishard_of(annotations.ids)
    for number in range(1 << layout.shard_bits):
        rows = np.flatnonzero(shard == number)
        rows = rows[np.argsort(minishard[rows], kind="stable")]  # by minishard, then by id
        front, back = index_of_records(layout, annotations.ids[rows], sizes[rows])
        parts = [front]
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            parts.append(_with_segments(records[some], [segments[some] for segments in related]))
        yield f"{key}/{layout.name(number)}", b"".join([*parts, back])


def _with_segments(records: np.ndarray, related: list[np.ndarray]) -> bytes:
    """Records, each followed by the number of segments (0 or 1) of each relation, and these."""
    parts, stored = [records], [np.ones(records.shape, bool)]
    for segments in related:
        there = segments > 0
        parts += [_bytes_of(there.astype("<u4")), _bytes_of(segments.astype("<u8"))]
        stored += [
            np.ones((len(segments), 4), bool),
            np.repeat(there[:, None], 8, axis=1),
        ]
    whole = np.concatenate(parts, axis=1)
    return bytes(whole[np.concatenate(stored, axis=1)].tobytes())


# --- lists ---------------------------------------------------------------------------------------


def _related(
    ids: np.ndarray, records: np.ndarray, segments: np.ndarray
) -> tuple[ShardLayout, dict[int, bytes]]:
    """The list of each segment's annotations, by segment."""
    rows = np.flatnonzero(segments > 0)
    rows = rows[np.argsort(segments[rows], kind="stable")]
    names, begins = np.unique(segments[rows], return_index=True)
    stops = np.append(begins, len(rows))[1:]
    bodies = {
        name: _list(ids, records, rows[start:stop])
        for name, start, stop in zip(names.tolist(), begins, stops, strict=True)
    }
    total = sum(map(len, bodies.values()))
    return _layout(total, len(bodies), SEGMENTS_PER_MINISHARD), bodies


def _cells(ids: np.ndarray, records: np.ndarray, level: Level) -> Iterator[tuple[int, bytes]]:
    """The list of each cell with annotations, by its Morton number; of the first in any case."""
    number = _morton(level.cell, level.bits)
    begins = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    if not len(number):
        yield 0, _list(ids, records, level.row)
        return
    stops = np.append(begins[1:], len(number))
    for start, stop in zip(begins.tolist(), stops.tolist(), strict=True):
        yield int(number[start]), _list(ids, records, level.row[start:stop])


def _list(ids: np.ndarray, records: np.ndarray, rows: np.ndarray) -> bytes:
    """Some annotations as a list."""
    body: bytes = records[rows].tobytes() + ids[rows].astype("<u8").tobytes()
    return _COUNT.pack(len(rows)) + body


def _morton(cell: np.ndarray, bits: Triple) -> np.ndarray:
    """The number of each cell z, y, x along the compressed Morton curve, uint64."""
    number, place = np.zeros(len(cell), np.uint64), 0
    for bit in range(max(bits)):
        for axis in (2, 1, 0):
            if bit < bits[axis]:
                digit = (cell[:, axis] >> bit & 1).astype(np.uint64)
                number |= digit << np.uint64(place)
                place += 1
    return number


def _shards(
    key: str, layout: ShardLayout, bodies: Mapping[int, bytes]
) -> Iterator[tuple[str, bytes]]:
    """The shards of some lists; one without lists is written, too: a browser asks for it."""
    names = np.array(sorted(bodies), np.uint64)
    shard = layout.shard_of(names)
    for number in range(1 << layout.shard_bits):
        own = {name: bodies[name] for name in names[shard == number].tolist()}
        yield f"{key}/{layout.name(number)}", layout.shard_bytes(own)


def _layout(total: int, count: int, per_minishard: int) -> ShardLayout:
    """Shards of at most `SHARD_BYTES`, and minishards of about so many objects."""
    shard_bits = (max(1, -(-total // SHARD_BYTES)) - 1).bit_length()
    minishards = max(1, count // (per_minishard << shard_bits))
    return ShardLayout(shard_bits, (minishards - 1).bit_length(), "raw")
