"""Cell bodies: one node, the root, for what is inside; neurites and trees stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.skeleton import Skeleton
from volflow.shape.soma import with_soma

#              3 of 400 nm: the body            7 - 8: another tree
#    0 - 1 - 2 - 3 - 4 - 5 - 6 every 200 nm
POSITION = np.array([[0.0, 0, 200 * i] for i in range(7)] + [[0, 100, 600], [0, 100, 800]])
PARENT = np.array([-1, 0, 1, 2, 3, 4, 5, -1, 7])
RADIUS = np.array([50.0, 50, 200, 400, 200, 50, 50, 20, 20])
CELL = Skeleton(5, POSITION, PARENT, RADIUS)


def test_the_nodes_of_the_body_become_its_middle_one_which_is_the_root() -> None:
    actual = with_soma(CELL, 400)
    assert actual.position[0].tolist() == [0, 0, 600]
    assert actual.radius.tolist() == [400, 50, 50, 20, 20]  # of 3, 0, 6, 7 and 8: 1 to 5 are inside
    assert actual.parent.tolist() == [-1, 0, 0, -1, 3]
    assert actual.name == 5


def test_thin_cells_have_no_body_but_around_a_nucleus() -> None:
    assert with_soma(CELL, 401) is CELL
    actual = with_soma(CELL, 401, np.array([0.0, -10, 390]))
    assert actual.position[0].tolist() == [0, 0, 400]
    assert actual.parent[0] == -1
    assert len(actual) == len(CELL) - 2  # 1 and 3 are within 200 nm of 2


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 40), st.integers(0, 1 << 20))
def test_trees_stay_as_many_and_the_rest_of_them_where_it_was(nodes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    parent = np.array([-1] + [int(random.integers(-1, number)) for number in range(1, nodes)])
    cell = Skeleton(1, random.random((nodes, 3)) * 9, parent, random.random(nodes) * 5)
    actual = with_soma(cell, 0)
    assert (actual.parent < 0).sum() == (parent < 0).sum()
    middle = cell.position[cell.radius.argmax()]
    assert actual.position[0].tolist() == middle.tolist()
    away = np.linalg.norm(cell.position - middle, axis=1)
    outside = cell.position[away > cell.radius.max()].tolist()
    remaining = actual.position.tolist()
    assert all(place in remaining for place in outside)


def test_a_skeleton_of_one_node_stays() -> None:
    one = Skeleton(1, np.zeros((1, 3)), np.array([-1]), np.array([2000.0]))
    assert len(with_soma(one, 1500)) == 1
    assert with_soma(one, 1500).radius[0] == pytest.approx(2000)
