"""Several skeletons as one flat forest of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from volflow.core.skeleton import Skeleton, forest_problem, node_problem


@dataclass(frozen=True, slots=True, eq=False)
class SkeletonForest:
    """The skeletons of a ground truth as one forest.

    Attributes
    ----------
    names : tuple of int, (S,)
        Name of each skeleton; all different.
    skeleton : int64 array, (N,)
        The skeleton that a node belongs to, as an index into `names`.
    position : float64 array, (N, 3)
        z, y, x in nanometres.
    parent : int64 array, (N,)
        Index of a node's parent, -1 at a root.
    radius : float64 array, (N,)
        Nanometres; 0 if unknown.
    edges : int64 array, (E, 2)
        Each node that has a parent, and its parent.
    lengths : float64 array, (E,)
        Length of each edge in nanometres.

    Raises
    ------
    ValueError
        If two skeletons have the same name, an edge joins two skeletons, or nodes are invalid as
        in `Skeleton`.
    """

    names: tuple[int, ...]
    skeleton: np.ndarray
    position: np.ndarray
    parent: np.ndarray
    radius: np.ndarray
    edges: np.ndarray = field(init=False, repr=False)
    lengths: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        twice = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if twice:
            raise ValueError(
                f"skeletons: {len(twice)} names occur more than once, such as {twice[0]}; put all "
                "pieces of a neuron into one skeleton"
            )
        nodes = len(self.skeleton)
        shapes = [self.position.shape, self.parent.shape, self.radius.shape]
        if shapes != [(nodes, 3), (nodes,), (nodes,)]:
            raise ValueError(
                f"{nodes} nodes: expected positions (N, 3), parents (N,) and radii (N,); got "
                f"{shapes}"
            )
        if nodes and not 0 <= self.skeleton.min() <= self.skeleton.max() < len(self.names):
            raise ValueError(f"nodes: expected skeletons 0 to {len(self.names) - 1}")
        for number in self._first_invalid():
            own = self.skeleton == number
            problem = node_problem(self.position[own], self.radius[own])
            raise ValueError(f"skeleton {self.names[number]}: {problem}")
        problem = forest_problem(self.parent)
        if problem:
            raise ValueError(problem)
        child = np.flatnonzero(self.parent >= 0)
        edges = np.stack([child, self.parent[child]], axis=1)
        across = self.skeleton[edges[:, 0]] != self.skeleton[edges[:, 1]]
        if across.any():
            raise ValueError(
                f"{across.sum()} edges join two skeletons, such as that of the nodes "
                f"{edges[across][0]}"
            )
        gone = self.position[edges[:, 0]] - self.position[edges[:, 1]]
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "lengths", np.sqrt((gone**2).sum(axis=1)))

    def _first_invalid(self) -> list[int]:
        """The first skeleton with invalid positions or radii, if there is one."""
        finite = np.isfinite(self.position).all(axis=1) & np.isfinite(self.radius)
        invalid: list[int] = self.skeleton[~(finite & (self.radius >= 0))][:1].tolist()
        return invalid

    @classmethod
    def of(cls, skeletons: Sequence[Skeleton]) -> SkeletonForest:
        """The forest of these skeletons, in their order."""
        sizes = [len(skeleton) for skeleton in skeletons]
        first = np.cumsum([0, *sizes])
        parents = [
            np.where(skeleton.parent < 0, -1, skeleton.parent + start)
            for skeleton, start in zip(skeletons, first, strict=False)
        ]
        return cls(
            tuple(skeleton.name for skeleton in skeletons),
            np.repeat(np.arange(len(sizes)), sizes),
            np.concatenate([np.zeros((0, 3)), *(s.position for s in skeletons)]),
            np.concatenate([np.zeros(0, np.int64), *parents]),
            np.concatenate([np.zeros(0), *(s.radius for s in skeletons)]),
        )

    def __len__(self) -> int:
        return len(self.parent)


def node_labels(forest: SkeletonForest, label: np.ndarray) -> np.ndarray:
    """The segment at each node as a checked uint64 array (N,)."""
    labels = np.asarray(label)
    if labels.shape != forest.parent.shape:
        raise ValueError(f"labels: expected {len(forest)}, one per node; got shape {labels.shape}")
    if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0):
        raise ValueError(f"labels: expected integers of 0 or more; got {labels.dtype}")
    return labels.astype(np.uint64)
