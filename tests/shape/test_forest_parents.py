"""Parents of a forest are those that `from_edges` finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.core.skeleton import from_edges
from volflow.shape.forest_parents import forest_parents


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 30), st.integers(0, 1 << 20))
def test_parents_are_those_of_any_edge_list_of_the_forest(nodes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    above = [int(random.integers(-1, number)) for number in range(nodes)]
    names = random.permutation(nodes)
    pairs = [(names[a], names[b]) for a, b in enumerate(above) if b >= 0]
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    flipped = random.random(len(edges)) < 0.5
    edges[flipped] = edges[flipped][:, ::-1]
    edges = random.permutation(edges)
    expected = from_edges(np.zeros((nodes, 3)), edges).parent
    np.testing.assert_array_equal(forest_parents(nodes, edges), expected)


def test_cycles_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 edges in 1 trees; got 4: cycles"):
        forest_parents(4, np.array([[0, 1], [1, 2], [2, 0], [2, 3]]))
