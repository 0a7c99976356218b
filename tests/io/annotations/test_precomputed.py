"""The laws of stored annotations: read by Neuroglancer's own reader, complete, in every cell."""

from __future__ import annotations

import tempfile
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.annotations import AnnotationSet
from volflow.core.geometry import Box
from volflow.io.annotations.precomputed import files
from volflow.io.annotations.spatial_index import Level, levels, sampling_order

read = pytest.importorskip("neuroglancer.read_precomputed_annotations")

BOUNDS = Box((3, -5, 0), (40, 101, 90))
RESOLUTION = (40.0, 8.0, 8.0)
START, SHAPE = np.array(BOUNDS.start), np.array(BOUNDS.shape)


def drawn(kind: Any, count: int, seed: int) -> AnnotationSet:
    random = np.random.default_rng(seed)
    shape = (count, {"point": 1, "line": 2}[kind], 3)
    position = START + random.random(shape) * SHAPE
    if kind == "line" and count:
        position[::3] = np.round(position[::3])  # on faces of cells
        position[0, 1] = position[0, 0]
    segments = random.integers(0, 4, (2, count)).astype(np.uint64)
    segments[segments > 0] += 1 << 60
    return AnnotationSet(
        kind,
        random.permutation(np.arange(5, 5 + count, dtype=np.uint64) << np.uint64(50)),
        position,
        RESOLUTION,
        {
            "small": random.integers(0, 200, count).astype(np.uint8),
            "score": random.random(count).astype(np.float32),
            "size": random.integers(0, 9999, count).astype(np.uint16),
        },
        {"pre": segments[0], "post": segments[1]},
    )


def stored(annotations: AnnotationSet, folder: str, limit: int) -> Any:
    for key, body in files(annotations, BOUNDS, limit):
        path = Path(folder) / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(body)
    return read.AnnotationReader(f"file://{folder}/")


def content(one: Any) -> tuple[Any, ...]:
    ends = (one.point,) if hasattr(one, "point") else (one.point_a, one.point_b)
    return int(one.id), tuple(tuple(end) for end in ends), tuple(float(p) for p in one.props)


def expected_content(annotations: AnnotationSet) -> dict[int, tuple[Any, ...]]:
    """By id: all that a list holds of an annotation, wide properties first."""
    ends = annotations.position[..., ::-1].astype(np.float32)
    columns = [annotations.properties[name] for name in ("score", "size", "small")]
    return {
        name: (
            name,
            tuple(tuple(end) for end in ends[row].tolist()),
            tuple(float(column[row]) for column in columns),
        )
        for row, name in enumerate(annotations.ids.tolist())
    }


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["point", "line"]), st.integers(0, 60), st.integers(1, 9), st.integers(0, 9))
def test_neuroglancers_reader_finds_all_that_was_stored(kind, count, limit, seed) -> None:
    annotations = drawn(kind, count, seed)
    expected = expected_content(annotations)
    with tempfile.TemporaryDirectory() as folder:
        reader = stored(annotations, folder, limit)
        for row, name in enumerate(annotations.ids.tolist()):
            one = reader.by_id[name]
            assert content(one) == expected[name]
            for segments, relation in zip(one.segments, ("pre", "post"), strict=True):
                segment = int(annotations.relationships[relation][row])
                assert [int(s) for s in segments] == ([segment] if segment else [])
        for relation, segments in annotations.relationships.items():
            for segment in np.unique(segments[segments > 0]).tolist():
                listed = reader.relationships[relation][segment]
                own = annotations.ids[segments == segment].tolist()
                assert [content(one) for one in listed] == [expected[n] for n in sorted(own)]
        indexed = levels(annotations, BOUNDS, limit)
        for spatial, level in zip(reader.spatial, indexed, strict=True):
            grid = spatial.metadata["grid_shape"]
            place = annotations.ids[level.row]
            for cell in product(*map(range, grid)):
                here = place[(level.cell == cell[::-1]).all(axis=1)].tolist()
                listed = spatial[cell] if here or cell == (0, 0, 0) == tuple(grid) else []
                assert [content(one) for one in listed] == [expected[n] for n in here]


def cells_by_sampling(level: Level, annotations: AnnotationSet, row: int) -> set[tuple[int, ...]]:
    """The cells in which points of an annotation are, 4,001 points of it."""
    ends = annotations.position[row].astype(np.float32).astype(np.float64)
    along = np.linspace(0, 1, 4001)[:, None] if len(ends) == 2 else np.zeros((1, 1))
    points = ends[0] + along * (ends[-1] - ends[0])
    scaled = (points - START) / SHAPE * np.exp2(level.bits)
    last = (1 << np.array(level.bits)) - 1
    return set(map(tuple, np.clip(np.floor(scaled), 0, last).astype(int).tolist()))


def reaches(level: Level, annotations: AnnotationSet, row: int, cell: tuple[int, ...]) -> bool:
    """Whether a point of an annotation is within a hundredth of a cell."""
    ends = annotations.position[row]
    along = np.linspace(0, 1, 4001)[:, None]
    points = ends[0] + along * (ends[-1] - ends[0])
    scaled = (points - START) / SHAPE * np.exp2(level.bits) - np.array(cell)
    return bool(((scaled >= -0.01) & (scaled <= 1.01)).all(axis=1).any())


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["point", "line"]), st.integers(1, 40), st.integers(1, 6), st.integers(0, 9))
def test_each_annotation_is_in_one_level_in_every_cell_that_it_crosses(
    kind, count, limit, seed
) -> None:
    annotations = drawn(kind, count, seed)
    indexed = list(levels(annotations, BOUNDS, limit))
    rows = np.concatenate([np.unique(level.row) for level in indexed])
    assert sorted(rows.tolist()) == list(range(count))
    for level in indexed:
        pairs = list(zip(map(tuple, level.cell.tolist()), level.row.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        for row in np.unique(level.row).tolist():
            own = {cell for cell, other in pairs if other == row}
            assert own >= cells_by_sampling(level, annotations, row)
            assert all(reaches(level, annotations, row, cell) for cell in own)


def test_no_cell_is_overfull_and_a_level_is_a_sample_of_all_places_alike() -> None:
    annotations = drawn("point", 4000, 1)
    indexed = list(levels(annotations, BOUNDS, 50))
    assert len(indexed) > 3
    for level in indexed:
        sizes = np.unique(level.cell, axis=0, return_counts=True)[1]
        assert sizes.max() <= 50
    order = sampling_order(annotations.ids)
    ends = [order[np.unique(level.row)] for level in indexed]
    assert all(one.max() < other.min() for one, other in pairwise(ends))


def test_equal_positions_end_in_a_last_level_that_holds_them_all() -> None:
    count = 30
    annotations = AnnotationSet(
        "point",
        np.arange(1, count + 1, dtype=np.uint64),
        np.full((count, 1, 3), 7.25),
        (8.0, 8.0, 8.0),
    )
    indexed = list(levels(annotations, Box((0, 0, 0), (64, 64, 64)), 1))
    assert sorted(np.concatenate([level.row for level in indexed]).tolist()) == list(range(count))
    assert all(sum(level.bits) <= 63 for level in indexed)


def test_the_order_of_rows_changes_no_byte() -> None:
    one = drawn("line", 200, 3)
    order = np.random.default_rng(0).permutation(200)
    other = AnnotationSet(
        one.kind,
        one.ids[order],
        one.position[order],
        one.resolution,
        {name: column[order] for name, column in one.properties.items()},
        {name: column[order] for name, column in one.relationships.items()},
    )
    assert dict(files(one, BOUNDS, 20)) == dict(files(other, BOUNDS, 20))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ids": np.array([4, 4], np.uint64)}, "id 4 occurs twice"),
        ({"ids": np.array([4, 5], np.int64)}, "expected ids of uint64; got int64"),
        ({"position": np.array([[[1, 2, np.nan]], [[1, 2, 3]]])}, "finite"),
        ({"position": np.zeros((2, 2, 3))}, r"expected positions of shape \(2, 1, 3\)"),
        ({"properties": {"n": np.zeros(2, "uint32")}}, "n: expected one of float32.*got uint32"),
        ({"properties": {"N": np.zeros(2, "float32")}}, "'N': expected a name of letters"),
        ({"relationships": {"pre": np.zeros(3, "uint64")}}, "pre: expected 2 values"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(changed, message) -> None:
    given = {
        "kind": "point",
        "ids": np.array([4, 5], np.uint64),
        "position": np.zeros((2, 1, 3)),
        "resolution": RESOLUTION,
    }
    with pytest.raises(ValueError, match=message):
        AnnotationSet(**{**given, **changed})
