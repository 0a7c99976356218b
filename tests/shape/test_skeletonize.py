"""Skeletons of labels run where the exact centre lines of synthetic neurites run."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from volflow.core.geometry import Box
from volflow.core.skeleton import Skeleton, from_edges
from volflow.shape.skeletonize import skeletonize
from volflow.synth import Neuropil

RESOLUTION = (20.0, 8.0, 8.0)


def tube(shape, places, radius: float) -> np.ndarray:
    """Voxels of 20 x 8 x 8 nm within a radius in nm of a polyline given in nm."""
    voxels = np.stack(np.indices(shape), axis=-1) * RESOLUTION
    inside = np.zeros(shape, bool)
    for a, b in itertools.pairwise(places):
        way = np.subtract(b, a)
        share = np.clip(((voxels - a) @ way) / (way @ way), 0, 1)
        inside |= np.linalg.norm(voxels - (a + share[..., None] * way), axis=-1) <= radius
    return inside


def nodes_lie_inside(skeletons: list[Skeleton], labels: np.ndarray, start=(0, 0, 0)) -> None:
    for one in skeletons:
        voxel = np.floor(one.position / RESOLUTION + 0.5).astype(int) - start
        np.testing.assert_array_equal(labels[tuple(voxel.T)], one.name)


@pytest.mark.parametrize("end", [(60, 400, 1100), (700, 700, 700), (900, 80, 300)])
def test_a_straight_tube_has_the_length_and_width_it_was_painted_with(end) -> None:
    first, last = np.array([60.0, 80.0, 80.0]), np.array(end, float)
    labels = np.where(tube((50, 100, 150), [first, last], 60), np.uint64(7), np.uint64(0))
    (actual,) = skeletonize(labels, RESOLUTION)
    assert actual.name == 7
    nodes_lie_inside([actual], labels)
    exact = np.linalg.norm(last - first)
    # the path may go on through half a ball at both ends
    assert 0.9 * exact < actual.lengths.sum() < 1.1 * (exact + 120)
    assert np.bincount(actual.edges.ravel()).max() == 2  # no twigs
    middle = np.linalg.norm(actual.position - (first + last) / 2, axis=1).argmin()
    assert actual.radius[middle] == pytest.approx(60, abs=20)  # to the middle of a voxel beyond
    way = (last - first) / exact
    beside = actual.position - first - np.outer((actual.position - first) @ way, way)
    assert np.linalg.norm(beside, axis=1).max() < 60  # nowhere out of it


def test_a_fork_has_three_tips_and_one_branch() -> None:
    fork = (400.0, 400.0, 400.0)
    ends = [(80, 400, 80), (760, 200, 760), (400, 760, 720)]
    parts = [tube((44, 110, 110), [fork, end], 60) for end in ends]
    (actual,) = skeletonize(np.any(parts, axis=0).astype("uint8"), RESOLUTION)
    degree = np.bincount(actual.edges.ravel())
    assert (degree == 1).sum() == 3
    assert (degree > 2).sum() == 1
    branch = actual.position[degree.argmax()]
    assert np.linalg.norm(branch - fork) < 120
    tree = cKDTree(actual.position)
    assert tree.query(ends)[0].max() < 80


def test_a_helix_has_its_length() -> None:
    turn = np.linspace(0, 4 * np.pi, 60)
    places = np.stack([80 + 50 * turn, 400 + 250 * np.sin(turn), 400 + 250 * np.cos(turn)], axis=1)
    labels = tube((44, 100, 100), list(places), 60).astype("uint16")
    (actual,) = skeletonize(labels, RESOLUTION)
    nodes_lie_inside([actual], labels)
    exact = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    assert actual.lengths.sum() == pytest.approx(exact, rel=0.15)
    assert cKDTree(places).query(actual.position)[0].max() < 60
    (rough,) = skeletonize(labels, RESOLUTION, rounds=0)
    assert rough.lengths.sum() > 1.03 * actual.lengths.sum()


def test_synthetic_neurites_are_as_long_as_their_exact_centre_lines() -> None:
    # From end to end: short twigs are not looked for, so all branches together are not compared.
    bounds = Box((4, -6, 9), (104, 94, 109))
    tissue = Neuropil(bounds, seed=1, cell=14)
    labels, exact = tissue.truth(bounds), tissue.skeletons(bounds)
    actual = {one.name: one for one in skeletonize(labels, (8.0, 8.0, 8.0), start=bounds.start)}
    assert set(actual) == set(np.unique(labels).tolist()) - {0}
    for name, one in actual.items():
        voxel = np.floor(one.position / 8.0 + 0.5).astype(int) - bounds.start
        np.testing.assert_array_equal(labels[tuple(voxel.T)], name)
    ratios = []
    for owner in np.unique(exact.owner):
        own = exact.owner == owner
        names, places = exact.names[own], exact.places_nm((8.0, 8.0, 8.0))[own]
        edges = exact.edges[np.isin(exact.edges, names).all(axis=1)]
        line = from_edges(places, np.searchsorted(names, edges))
        one_end = way(line, 0).argmax()
        other_end = way(line, one_end).argmax()
        length = way(line, one_end)[other_end]
        if length > 600:
            one = actual[int(owner)]
            a, b = cKDTree(one.position).query(places[[one_end, other_end]])[1]
            ratios.append(way(one, a)[b] / length)
    assert len(ratios) > 10
    assert np.median(ratios) == pytest.approx(1, abs=0.15)
    assert max(ratios) < 1.15


def way(skeleton: Skeleton, start: int) -> np.ndarray:
    """Length of the way from a node to each other one, -1 where there is none."""
    shape = (len(skeleton), len(skeleton))
    graph = coo_array((skeleton.lengths, skeleton.edges.T), shape=shape).tocsr()
    actual = dijkstra(graph, directed=False, indices=start)
    return np.where(np.isfinite(actual), actual, -1)


def test_smoothing_leaves_no_object() -> None:
    labels = np.full((3, 4, 40), 2, np.uint8)
    x = np.arange(40)
    labels[1, 1 + x % 2, x] = 1  # a line one voxel wide that turns at each voxel
    actual = skeletonize(labels, RESOLUTION)
    assert [one.name for one in actual] == [1, 2]
    for one in actual:
        nodes_lie_inside([one], labels)


def test_pieces_of_a_label_are_trees_of_one_skeleton() -> None:
    labels = np.zeros((20, 40, 60), np.uint32)
    labels[5:9, 5:12, 5:50] = labels[12:16, 20:28, 5:50] = 3
    (actual,) = skeletonize(labels, RESOLUTION)
    assert (actual.parent < 0).sum() == 2
    assert skeletonize(np.zeros((3, 3, 3), np.uint8), RESOLUTION) == []


@pytest.mark.parametrize(
    ("labels", "rest", "reported"),
    [
        (
            np.zeros((3, 3), np.uint8),
            {},
            r"expected unsigned integers \(Z, Y, X\); got uint8 \(3, 3\)",
        ),
        (np.zeros((3, 3, 3), np.int32), {}, "got int32"),
        (np.zeros((3, 3, 3), np.uint8), {"resolution": (0, 8, 8)}, "three positive numbers"),
        (np.zeros((3, 3, 3), np.uint8), {"scale": math.nan}, "scale: expected 0 or more"),
    ],
)
def test_what_cannot_be_is_reported(labels, rest, reported) -> None:
    with pytest.raises(ValueError, match=reported):
        skeletonize(labels, rest.pop("resolution", RESOLUTION), **rest)


def test_without_the_library_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bioimage_cpp", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[skeletons\]'"):
        skeletonize(np.ones((3, 3, 3), np.uint8), RESOLUTION)
