"""Rows of meshes: put together in the same way in whatever order they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.fragmented_mesh import MeshLevel, z_order
from volflow.shape.mesh_fragments import Fragment
from volflow.shape.mesh_table import (
    OF_VOLUME,
    fragment_rows,
    joined,
    ordered,
    segments_of,
    size_rows,
    with_parents,
)

CELLS = st.lists(st.tuples(*[st.integers(0, 9)] * 3), unique=True, max_size=20)


@settings(max_examples=60, deadline=None)
@given(CELLS)
def test_cells_follow_a_z_order_curve(cells) -> None:
    def code(cell: tuple[int, int, int]) -> int:
        z, y, x = (f"{side:021b}" for side in cell)
        return int("".join(a + b + c for a, b, c in zip(z, y, x, strict=True)), 2)

    array = np.array(cells, np.int64).reshape(-1, 3)
    assert [cells[number] for number in z_order(array)] == sorted(cells, key=code)
    with pytest.raises(ValueError, match="from 0 to 2097151"):
        z_order(np.array([[0, 1 << 21, 0]]))


@settings(max_examples=40, deadline=None)
@given(CELLS, CELLS)
def test_levels_get_the_parents_of_finer_cells(cells, finer) -> None:
    array = np.array(cells, np.int64).reshape(-1, 3)
    level = MeshLevel(array, tuple(b"%d" % number for number in range(len(cells))))
    actual = with_parents(level, np.array(finer, np.int64).reshape(-1, 3))
    bodies = {tuple(c): b for c, b in zip(actual.cells.tolist(), actual.fragments, strict=True)}
    parents = {(z // 2, y // 2, x // 2) for z, y, x in finer}
    assert set(bodies) == parents | set(cells)
    for cell, body in bodies.items():
        assert body == (b"%d" % cells.index(cell) if cell in cells else b"")


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rows_are_joined_in_any_order(random) -> None:
    labels = np.array([1, 1, 2, 0, 1 << 63, 2, 2, 2], np.uint64)
    parts = [
        size_rows(labels[:5], OF_VOLUME),
        size_rows(labels[5:], OF_VOLUME),
        size_rows(labels[:5], 0),
        size_rows(labels[5:6], 1),
        fragment_rows([((0, 0, 1), Fragment(2, 5, b"b")), ((0, 0, 0), Fragment(2, 4, b"a"))], 0),
        fragment_rows([((0, 0, 0), Fragment(2, 3, b"c")), ((1, 0, 0), Fragment(1, 2, b"d"))], 1),
        fragment_rows([((3, 0, 0), Fragment(1, 6, b"e"))], 0),
    ]
    expected = ordered(joined(*parts))
    random.shuffle(parts)
    half = ordered(joined(*parts[:3]))
    actual = ordered(joined(half, *parts[3:]))
    for name, column in expected.items():
        assert actual[name].tolist() == column.tolist()
    segments = {each.segment: each for each in segments_of(actual)}
    assert list(segments) == [1, 2, 1 << 63]
    assert segments[1 << 63].levels == ()
    one, two = segments[1], segments[2]
    assert (one.voxels, one.triangles, len(one.levels)) == (2, 6, 1)  # nothing is left at level 1
    assert (two.voxels, two.triangles) == (4, 9)
    assert [level.fragments for level in two.levels] == [(b"a", b"b"), (b"c",)]
