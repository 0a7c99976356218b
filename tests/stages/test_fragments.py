"""The stage of fragments: what it declares holds."""

import numpy as np
import pytest
from pydantic import ValidationError

from volflow.core.geometry import BlockGrid, Box
from volflow.segment.fragments import fragments
from volflow.stages.fragments import Fragments


def laid(shape, block):
    stage = Fragments()
    return stage, BlockGrid(Box((0, 0, 0), shape), block, stage.halo)


def test_affinities_beyond_the_halo_do_not_matter_and_those_outside_the_bounds_neither():
    rng = np.random.default_rng(0)
    shape = (9, 8, 7)
    affinity = rng.integers(0, 5, (3, *shape), dtype=np.uint8)
    stage, grid = laid(shape, (4, 3, 2))
    whole = grid.bounds
    for block in grid:
        garbage = rng.integers(0, 255, (3, *block.read.shape), dtype=np.uint8)
        known = block.read.clip(whole)
        garbage[(slice(None), *known.within(block.read))] = affinity[
            (slice(None), *known.within(whole))
        ]
        clean = np.zeros_like(garbage)
        inside = (slice(None), *known.within(block.read))
        clean[inside] = garbage[inside]
        dirty, expected = stage.run(block, affinity=garbage), stage.run(block, affinity=clean)
        np.testing.assert_array_equal(dirty["fragments"], expected["fragments"])
        np.testing.assert_array_equal(dirty["links"]["bits"], expected["links"]["bits"])


def test_one_block_is_the_whole():
    affinity = np.random.default_rng(1).integers(0, 256, (3, 6, 7, 8), dtype=np.uint8)
    stage, grid = laid((6, 7, 8), (6, 7, 8))
    padded = np.pad(affinity, [(0, 0), (3, 3), (3, 3), (3, 3)])
    labels = stage.run(grid[0], affinity=padded)["fragments"]
    np.testing.assert_array_equal(labels, fragments(affinity))
    assert labels.any()


def test_the_input_is_left_as_it_was():
    affinity = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 12), dtype=np.uint8)
    mask = np.random.default_rng(2).random((12, 12, 12)) < 0.7
    before = affinity.copy(), mask.copy()
    stage, grid = laid((6, 6, 6), (6, 6, 6))
    stage.run(grid[0], affinity=affinity, mask=mask)
    np.testing.assert_array_equal(affinity, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_high_below_low_is_an_error():
    with pytest.raises(ValidationError, match="expected high not below low; got 3 and 4"):
        Fragments(low=4, high=3)
    with pytest.raises(ValidationError, match="less than or equal to 255"):
        Fragments(low=256)


def test_a_block_too_large_to_count_is_reported_at_planning():
    stage, grid = laid((2000, 2000, 2000), (2000, 2000, 2000))
    assert "expected fewer than 2**31 voxels" in stage.check(grid)[0]
    assert stage.check(laid((2000, 2000, 2000), (256, 256, 256))[1]) == []
