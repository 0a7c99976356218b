from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.skeleton import Skeleton, from_edges, resampled

PLACES = np.array([[0, 0, 0], [0, 0, 100], [0, 0, 250], [0, 100, 100], [9, 9, 9]], float)


@st.composite
def trees(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Positions and undirected edges of a forest, its nodes in no order."""
    nodes = draw(st.integers(1, 15))
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    parent = np.array([seed.integers(-1, i) if i else -1 for i in range(nodes)])
    order = seed.permutation(nodes)
    edges = np.array([(order[i], order[p]) for i, p in enumerate(parent) if p >= 0], np.int64)
    return seed.normal(size=(nodes, 3)) * 100, edges.reshape(-1, 2)


def test_edges_in_any_direction_become_a_forest() -> None:
    actual = from_edges(PLACES, np.array([[1, 0], [2, 1], [1, 3], [3, 1]]), name=7)
    assert (actual.name, actual.parent.tolist()) == (7, [-1, 0, 1, 1, -1])
    assert actual.radius.tolist() == [0] * 5
    assert actual.edges.tolist() == [[1, 0], [2, 1], [3, 1]]
    assert actual.lengths.tolist() == [100, 150, 100]
    assert len(from_edges(np.zeros((0, 3)), np.zeros((0, 2)))) == 0


@settings(max_examples=60, deadline=None)
@given(trees())
def test_edges_survive(tree: tuple[np.ndarray, np.ndarray]) -> None:
    position, edges = tree
    actual = from_edges(position, edges)
    assert sorted(map(sorted, actual.edges.tolist())) == sorted(map(sorted, edges.tolist()))


@settings(max_examples=60, deadline=None)
@given(trees(), st.floats(5, 300))
def test_resampled_is_the_same_line_in_short_pieces(
    tree: tuple[np.ndarray, np.ndarray], spacing: float
) -> None:
    position, edges = tree
    radius = position[:, 0] ** 2
    whole = from_edges(position, edges, radius)
    fine = resampled(whole, spacing)
    assert fine.lengths.size == 0 or fine.lengths.max() <= spacing * (1 + 1e-12)
    assert len(fine.edges) == np.ceil(whole.lengths / spacing).sum()
    assert fine.lengths.sum() == pytest.approx(whole.lengths.sum(), rel=1e-12)
    np.testing.assert_array_equal(fine.position[: len(whole)], whole.position)
    np.testing.assert_array_equal(fine.radius[: len(whole)], whole.radius)
    # names of nodes turned round: the same places and radii, to the last bit
    turn = len(whole) - 1 - np.arange(len(whole))
    other = resampled(from_edges(position[::-1], turn[edges], radius[::-1]), spacing)
    rows = [np.column_stack([s.position, s.radius]).tolist() for s in (fine, other)]
    assert sorted(rows[0]) == sorted(rows[1])


def test_resampled_by_hand() -> None:
    line = Skeleton(
        1, np.array([[0, 0, 0], [0, 0, 100.0]]), np.array([-1, 0]), np.array([10, 30.0])
    )
    fine = resampled(line, 30)
    # 100 nm in four pieces of 25; node 1 hangs on the new node next to it
    assert fine.position[:, 2].tolist() == [0, 100, 75, 50, 25]
    assert fine.parent.tolist() == [-1, 2, 3, 4, 0]
    assert fine.radius.tolist() == [10, 30, 25, 20, 15]
    assert resampled(line, 100).parent.tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("parent", "radius", "message"),
    [
        ([1, 2, 0], [0, 0, 0], "skeleton 3: its edges form a cycle, above 3 nodes"),
        ([-1, 1, 0], [0, 0, 0], "form a cycle, above 1 nodes such as node 1"),
        ([-1, 3, 0], [0, 0, 0], r"1 parents are outside -1..2, the first is 3 at node 1"),
        ([-1, 0, 1], [0, np.nan, np.inf], "2 of 3 nodes have radii that are NaN or infinite"),
        ([-1, 0, 1], [0, 1, -2], "1 of 3 nodes have negative radii, the first is node 2 with -2.0"),
        ([-1, 0], [0, 0, 0], "3 nodes need as many parents and radii"),
        ([-1.0, 0, 1], [0, 0, 0], "parents must be integers; got float64"),
    ],
)
def test_what_cannot_be_a_skeleton(parent: list[int], radius: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Skeleton(3, np.zeros((3, 3)), np.array(parent), np.array(radius))


def test_what_cannot_be_positions() -> None:
    with pytest.raises(ValueError, match=r"array \(N, 3\) of z, y, x in nm; got shape \(2, 2\)"):
        Skeleton(3, np.zeros((2, 2)), np.array([-1, 0]), np.zeros(2))
    wrong = PLACES.copy()
    wrong[2, 1] = np.nan
    with pytest.raises(ValueError, match="skeleton 4: 1 of 5 nodes have positions that are not"):
        from_edges(wrong, np.array([[0, 1]]), name=4)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [[0, 1], [1, 2], [2, 0]],
            "skeleton 2: its edges form 1 cycles; expected 2 edges for 5 nodes in 3 trees",
        ),
        ([[0, 0]], "form 1 cycles"),
        ([[0, 5], [1, 9]], r"2 edges refer to nodes outside 0..4, the first is \[0, 5\]"),
        ([[0, 1, 2]], r"edges must be an integer array \(E, 2\)"),
        ([[0.5, 1]], "edges must be an integer array"),
    ],
)
def test_edges_that_make_no_forest(edges: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_edges(PLACES, np.array(edges), name=2)


@pytest.mark.parametrize("spacing", [0, -1, np.nan, np.inf])
def test_spacing_is_a_positive_number(spacing: float) -> None:
    with pytest.raises(ValueError, match="expected a positive spacing"):
        resampled(from_edges(PLACES, np.array([[0, 1]])), spacing)
