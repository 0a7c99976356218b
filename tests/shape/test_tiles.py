"""Tiles of a segment: every voxel, and skeletons that meet; paths that cover a graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.shape.tubes import length_of, tube
from tests.strategies import boxes
from volflow.core.geometry import Box
from volflow.core.skeleton import from_edges
from volflow.shape.runs import block_runs, mask_of
from volflow.shape.skeletonize import segment_skeleton
from volflow.shape.tiles import covering_paths, tile_masks, tile_side

SIDE = (8.0, 8.0, 8.0)


@pytest.mark.parametrize("budget", [8, 26, 27, 4096, 10**6, (1 << 24) - 1])
def test_a_tile_and_the_planes_that_it_shares_fit_the_budget(budget: int) -> None:
    assert (tile_side(budget) + 1) ** 3 <= budget < (tile_side(budget) + 2) ** 3


@settings(max_examples=60, deadline=None)
@given(boxes(1, 9), st.integers(1, 6), st.integers(0, 1 << 20))
def test_tiles_hold_every_voxel_and_neighbours_share_a_plane(
    bounds: Box, side: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, bounds.shape).astype(np.uint64)
    labels.flat[0] = 1
    runs = block_runs(labels, bounds.start, (1, 1, 1))
    whole, start = mask_of(runs)
    times = np.zeros(whole.shape, int)
    for mask, origin in tile_masks(runs, side):
        assert mask.shape == (side + 1,) * 3
        assert mask.any()
        voxel = np.argwhere(mask) + np.array(origin) - start
        np.add.at(times, tuple(voxel.T), 1)
    shared = [(np.arange(n) + a) % side == 0 for n, a in zip(whole.shape, start, strict=True)]
    planes = [2**each for each in np.ix_(*(axis.astype(int) for axis in shared))]
    np.testing.assert_array_equal(times, whole * (planes[0] * planes[1] * planes[2]))


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 8), st.integers(0, 1 << 20))
def test_each_piece_of_a_segment_has_one_tree_however_small_the_tiles(side: int, seed: int) -> None:
    pytest.importorskip("bioimage_cpp")
    noise = np.random.default_rng(seed).random((14, 14, 14))
    labels = (ndimage.gaussian_filter(noise, 1.0) > 0.5).astype(np.uint64)
    labels[0, 0, 0] = 1
    _, pieces = ndimage.label(labels, np.ones((3, 3, 3)))
    runs = block_runs(labels, (0, 0, 0), (1, 1, 1))
    actual = segment_skeleton(runs, 1, (1, 1, 1), SIDE, tiles=side)
    assert (actual.parent < 0).sum() == pieces
    voxel = np.floor(actual.position / SIDE + 0.5).astype(int)
    assert labels[tuple(voxel.T)].all()


def test_a_tube_near_an_edge_of_tiles_keeps_both_ends() -> None:
    pytest.importorskip("bioimage_cpp")
    bounds = Box((0, 0, 0), (100, 100, 100))
    line = np.array([[130.0, 90, 100], [650, 690, 700]])  # its ends are near planes
    labels = tube(bounds, line, 40, SIDE).astype(np.uint64)
    runs = block_runs(labels, (0, 0, 0), (1, 1, 1))
    for side in (40, 47, 84):
        actual = segment_skeleton(runs, 1, (1, 1, 1), SIDE, tiles=side)
        assert actual.lengths.sum() > length_of(line) + 80 - 60  # scale times the radius, once
        assert actual.lengths.sum() < 1.03 * (length_of(line) + 80)
        assert np.bincount(actual.edges.ravel()).max() == 2


def test_paths_cover_a_graph_longest_first_and_leave_short_twigs() -> None:
    #     0 - 1 - 2 - 3 - 4 - 5       and between 2 and 3 a detour over 6; 7 a twig at 1
    position = np.array([[0.0, 0, 100 * i] for i in range(6)] + [[0, 60, 250], [0, 90, 100]])
    edges = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [2, 6], [6, 3], [1, 7]])
    radius = np.full(8, 10.0)
    places, pairs, radii = covering_paths(position, edges, radius, 2.0, 75.0)
    straight = from_edges(places, pairs)
    assert len(radii) == len(places) == 6
    assert straight.lengths.sum() == 500
    places, pairs, _ = covering_paths(position, edges, radius, 2.0, 65.0)  # 85: the twig is longer
    assert from_edges(places, pairs).lengths.sum() == 590
    assert (np.bincount(pairs.ravel()) == 1).sum() == 3


def test_each_part_of_a_graph_has_a_tree_and_lone_nodes_stay() -> None:
    position = np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 900], [0, 900, 900]])
    places, pairs, _ = covering_paths(position, np.array([[0, 1]]), np.ones(4), 1.0, 10.0)
    assert places.tolist() == position.tolist()
    assert np.sort(pairs).tolist() == [[0, 1]]
