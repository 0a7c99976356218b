"""Skeletons drawn at random, and the same ones in other words."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from volflow.core.skeleton import Skeleton, from_edges
from volflow.metrics.skeletons.forest import SkeletonForest


def path(places: list[list[float]] | np.ndarray, name: int, radius: float = 50.0) -> Skeleton:
    """A skeleton without branches."""
    count = len(places)
    parent = np.arange(count) - 1
    return Skeleton(name, np.array(places, float), parent, np.full(count, radius))


@st.composite
def forests(draw: st.DrawFn, labels: int = 4) -> tuple[SkeletonForest, np.ndarray]:
    """Up to four skeletons, some in pieces or a single node, and a segment at each node."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    skeletons = []
    for name in random.permutation(9)[: draw(st.integers(1, 4))].tolist():
        nodes = draw(st.integers(1, 12))
        parent = np.array([random.integers(max(-1, i - 4), i) if i else -1 for i in range(nodes)])
        # a coarse grid: ties in length and in place happen
        place = random.integers(0, 4, (nodes, 3)) * 130.7
        skeletons.append(Skeleton(name, place, parent, random.random(nodes) * 90))
    forest = SkeletonForest.of(skeletons)
    return forest, random.integers(0, labels + 1, len(forest)).astype(np.uint64)


def told_differently(
    forest: SkeletonForest, random: np.random.Generator
) -> tuple[SkeletonForest, np.ndarray]:
    """The same skeletons with skeletons, nodes and roots in another order, and that of nodes."""
    skeletons, order = [], []
    for number in random.permutation(len(forest.names)):
        own = random.permutation(np.flatnonzero(forest.skeleton == number))
        place = np.zeros(len(forest), np.int64)
        place[own] = np.arange(len(own))
        inside = forest.edges[forest.skeleton[forest.edges[:, 0]] == number]
        skeletons.append(
            from_edges(
                forest.position[own], place[inside], forest.radius[own], forest.names[number]
            )
        )
        order.append(own)
    return SkeletonForest.of(skeletons), np.concatenate(order)
