"""The segmentation written down once more: globally, voxel by voxel, slowly, in plain Python.

Nothing here is shared with the library, and nothing knows of blocks.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

Voxel = tuple[int, int, int]
ORDER = [(0, -1), (0, 1), (1, -1), (1, 1), (2, -1), (2, 1)]  # -z +z -y +y -x +x


class Volume:
    """The pairs of voxels that exist in a volume and their affinities."""

    def __init__(self, affinity: np.ndarray, mask: np.ndarray | None) -> None:
        self.shape = affinity.shape[1:]
        self.affinity = affinity.tolist()
        allowed = np.ones(self.shape, bool) if mask is None else mask
        self.voxels = {tuple(map(int, v)) for v in np.argwhere(allowed)}

    def index(self, voxel: Voxel) -> int:
        z, y, x = voxel
        return (z * self.shape[1] + y) * self.shape[2] + x

    def neighbours(self, voxel: Voxel) -> list[tuple[Voxel, int]]:
        """Neighbours that exist, in the order of preference, with the affinity to each."""
        actual = []
        for axis, step in ORDER:
            other = list(voxel)
            other[axis] += step
            upper = tuple(other) if step > 0 else voxel
            if tuple(other) in self.voxels and voxel in self.voxels:
                z, y, x = upper
                actual.append((tuple(other), self.affinity[axis][z][y][x]))
        return actual

    def contacts(self) -> list[tuple[Voxel, Voxel, int]]:
        """Every pair that exists, once."""
        return [
            (voxel, other, value)
            for voxel in self.voxels
            for other, value in self.neighbours(voxel)
            if other < voxel
        ]


def chosen(volume: Volume, voxel: Voxel) -> Voxel | None:
    best, best_key = None, None
    for other, value in volume.neighbours(voxel):
        key = (value, sum(a for _, a in volume.neighbours(other)))
        if best_key is None or key > best_key:
            best, best_key = other, key
    return best


def strongest(volume: Volume, voxel: Voxel) -> int:
    return max((value for _, value in volume.neighbours(voxel)), default=0)


def spread(seeds: set[Voxel], links: dict[Voxel, set[Voxel]]) -> list[set[Voxel]]:
    """Connected components."""
    left, actual = set(seeds), []
    while left:
        todo = [left.pop()]
        part = set(todo)
        while todo:
            for other in links[todo.pop()]:
                if other in left:
                    left.discard(other)
                    part.add(other)
                    todo.append(other)
        actual.append(part)
    return actual


def fragment_labels(
    volume: Volume, low: int, high: int | None, box_of=lambda voxel: 0
) -> dict[Voxel, int]:
    """Fragments; those that reach over boxes are cut there."""
    alive = {v for v in volume.voxels if strongest(volume, v) >= low}
    links: dict[Voxel, set[Voxel]] = defaultdict(set)

    def join(u: Voxel, v: Voxel) -> None:
        if box_of(u) == box_of(v):
            links[u].add(v)
            links[v].add(u)

    for voxel in alive:
        other = chosen(volume, voxel)
        if other is not None:
            join(voxel, other)
    if high is not None:
        for voxel, other, value in volume.contacts():
            if value >= high and voxel in alive and other in alive:
                join(voxel, other)
    labels = {}
    for part in spread(alive, links):
        name = 1 + max(volume.index(v) for v in part)
        labels.update(dict.fromkeys(part, name))
    return labels


def edges_of(volume: Volume, labels: dict[Voxel, int], box_of) -> dict[tuple[int, int], list[int]]:
    """(larger id, smaller id): affinity sum and contact, inside boxes."""
    edges: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for voxel, other, value in volume.contacts():
        u, v = labels.get(voxel, 0), labels.get(other, 0)
        if u and v and u != v and box_of(voxel) == box_of(other):
            edges[max(u, v), min(u, v)][0] += value
            edges[max(u, v), min(u, v)][1] += 1
    return edges


def rank(pair: tuple[int, int], edge: list[int]) -> tuple[float, int, int]:
    """Smaller is better."""
    return (-edge[0] / (255 * edge[1]), *pair)


def components(names: set[int], pairs: list[tuple[int, int]]) -> dict[int, int]:
    links: dict[int, set[int]] = defaultdict(set)
    for u, v in pairs:
        links[u].add(v)
        links[v].add(u)
    return {name: max(part) for part in spread(names, links) for name in part}


def renamed(labels: dict[Voxel, int], names: dict[int, int]) -> dict[Voxel, int]:
    return {voxel: names[label] for voxel, label in labels.items()}


class Tied(Exception):
    """Two edges scored the same where it mattered, so that ids decided."""


def joined_once(volume: Volume, labels: dict[Voxel, int], score: float, box_of, ties: bool = True):
    edges = edges_of(volume, labels, box_of)
    if not ties and len({rank(pair, edge)[0] for pair, edge in edges.items()}) < len(edges):
        raise Tied
    best: dict[int, tuple] = {}
    for pair, edge in edges.items():
        for name in pair:
            key = (rank(pair, edge), pair)
            best[name] = min(best.get(name, key), key)
    pairs = [pair for key, pair in best.values() if -key[0] >= score]
    return renamed(labels, components(set(labels.values()), pairs))


def merged(
    volume: Volume, labels: dict[Voxel, int], score: float, min_size: int, box_of, ties: bool = True
):
    """Merge the best edge, and again; with `ties` False only while it is better than any other."""
    edges = {pair: list(edge) for pair, edge in edges_of(volume, labels, box_of).items()}
    sizes: dict[int, int] = defaultdict(int)
    for label in labels.values():
        sizes[label] += 1
    names = {label: label for label in sizes}
    while True:
        able = [
            rank(pair, edge)
            for pair, edge in edges.items()
            if not min_size or min(sizes[pair[0]], sizes[pair[1]]) < min_size
        ]
        if not able or -min(able)[0] < score:
            return renamed(labels, names)
        if not ties and len(able) > 1 and sorted(able)[1][0] == min(able)[0]:
            raise Tied
        _, keeps, goes = min(able)
        sizes[keeps] += sizes.pop(goes)
        names = {label: keeps if name == goes else name for label, name in names.items()}
        pooled: dict[tuple[int, int], list[int]] = {}
        for pair, (total, contact) in edges.items():
            u, v = (keeps if name == goes else name for name in pair)
            if u != v:
                edge = pooled.setdefault((max(u, v), min(u, v)), [0, 0])
                edge[0] += total
                edge[1] += contact
        edges = pooled


def stitched(volume: Volume, labels: dict[Voxel, int], score: float, box_of):
    """Join segments of two boxes where all of their contact scores enough, and is mutual."""
    edges: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    shared: dict[tuple[int, object], int] = defaultdict(int)
    home = {labels[voxel]: box_of(voxel) for voxel in labels}
    for voxel, other, value in volume.contacts():
        u, v = labels.get(voxel, 0), labels.get(other, 0)
        if u and v and box_of(voxel) != box_of(other):
            edges[max(u, v), min(u, v)][0] += value
            edges[max(u, v), min(u, v)][1] += 1
            shared[u, home[v]] += value
            shared[v, home[u]] += value
    pairs = [
        (u, v)
        for (u, v), edge in edges.items()
        if -rank((u, v), edge)[0] >= score
        and 2 * edge[0] >= shared[u, home[v]]
        and 2 * edge[0] >= shared[v, home[u]]
    ]
    return renamed(labels, components(set(labels.values()), pairs))


def segmentation(
    affinity: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    low: int = 1,
    high: int | None = None,
    threshold: float = 0.5,
    join_rounds: int = 1,
    join_score: float = 0.5,
    min_size: int = 0,
    min_size_score: float = 0.02,
    horizon: tuple[int, int, int] | None = None,
    ties: bool = True,
) -> np.ndarray:
    """The segmentation of a whole volume, uint64; `Tied` if ids mattered and must not."""
    volume = Volume(affinity, mask)

    def box_of(voxel: Voxel) -> tuple[int, ...] | int:
        return 0 if horizon is None else tuple(a // h for a, h in zip(voxel, horizon, strict=True))

    labels = fragment_labels(volume, low, high, box_of)
    for _ in range(join_rounds):
        labels = joined_once(volume, labels, join_score, box_of, ties)
    labels = merged(volume, labels, threshold, 0, box_of, ties)
    if min_size:
        labels = merged(volume, labels, min_size_score, min_size, box_of, ties)
    if horizon:
        labels = stitched(volume, labels, threshold, box_of)
    return painted(volume.shape, labels)


def painted(shape: tuple[int, ...], labels: dict[Voxel, int]) -> np.ndarray:
    actual = np.zeros(shape, np.uint64)
    for voxel in itertools.product(*map(range, shape)):
        actual[voxel] = labels.get(voxel, 0)
    return actual
