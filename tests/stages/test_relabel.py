"""The stage that paints segments."""

import numpy as np
import pytest

from volflow.core.geometry import BlockGrid, Box
from volflow.segment.relabel import relabel
from volflow.stages.relabel import Relabel


def test_each_piece_gets_its_segment_and_0_stays_0():
    pieces = np.array([0, 5, 5, 9, 0, 5, 7, 7], np.uint64).reshape(2, 2, 2)
    table = {"piece": np.array([5, 7, 9], np.uint64), "segment": np.array([9, 20, 9], np.uint64)}
    block = BlockGrid(Box((0, 0, 0), (2, 2, 2)), (2, 2, 2))[0]
    painted = Relabel().run(block, fragments=pieces, table=table)["segmentation"]
    assert painted.dtype == np.uint64
    assert painted.ravel().tolist() == [0, 9, 9, 9, 0, 9, 20, 20]


def test_a_piece_without_a_row_is_an_error():
    pieces = np.array([5, 6], np.uint64)
    for known in ([5], [5, 7], []):
        names = np.array(known, np.uint64)
        with pytest.raises(ValueError, match="is missing from the table"):
            relabel(pieces, names, names)


def test_relabelling_twice_is_relabelling_once():
    rng = np.random.default_rng(0)
    before = np.arange(1, 50, dtype=np.uint64)
    after = before[rng.integers(25, 49, 49)]
    after[after - 1] = after  # segments are named by one of their pieces
    labels = rng.integers(0, 50, (4, 5, 6), dtype=np.uint64)
    once = relabel(labels, before, after)
    np.testing.assert_array_equal(relabel(once, before, after), once)
    np.testing.assert_array_equal(once == 0, labels == 0)
