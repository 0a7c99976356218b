"""Nodes of skeletons placed in the voxels of a volume, and found by box.

The centre of a voxel is its index times the resolution. A node belongs to the voxel with the
nearest centre; if that is outside the bounds, to the nearest voxel inside.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from volflow.core.geometry import Block, Box, Resolution, zyx
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Record
from volflow.errors import StorageError
from volflow.io.skeletons.sets import SkeletonSet

CELL = 64  # voxels per side of a cell of the index
FARTHEST = 2.0**60  # voxels; larger coordinates are clipped to it
NODE_BYTES = 480  # memory of a node while it is placed, its bytes read included; measured 415


class Nodes:
    """All nodes of a set in one order: by skeleton, then as stored.

    Attributes
    ----------
    skeleton : uint64 array, (N,)
        The id of each node's skeleton.
    parent : int64 array, (N,)
        Number of the parent, -1 at a root.
    position : float64 array, (N, 3)
        z, y, x in nanometres.
    radius : float64 array, (N,)
        Nanometres; 0 if unknown.
    voxel : int64 array, (N, 3)
        The voxel of each node, within the bounds.
    outside : bool array, (N,)
        Whether the node itself is outside the bounds.
    """

    def __init__(self, skeletons: list[Skeleton], bounds: Box, resolution: Resolution) -> None:
        sizes = [len(skeleton) for skeleton in skeletons]
        first = np.cumsum([0, *sizes])
        names = np.array([skeleton.name for skeleton in skeletons], np.uint64)
        self.skeleton = np.repeat(names, sizes)
        parents = [
            np.where(skeleton.parent < 0, -1, skeleton.parent + start)
            for skeleton, start in zip(skeletons, first, strict=False)
        ]
        self.parent = np.concatenate([np.zeros(0, np.int64), *parents])
        self.position = np.concatenate([np.zeros((0, 3)), *(s.position for s in skeletons)])
        self.radius = np.concatenate([np.zeros(0), *(s.radius for s in skeletons)])
        self.bounds, self.resolution = bounds, resolution
        nearest = voxels_of(self.position, resolution)
        self.voxel = np.clip(nearest, bounds.start, np.array(bounds.stop) - 1)
        self.outside = (nearest != self.voxel).any(axis=1)
        self._node_index = CellIndex(self.voxel, bounds)
        self._edge_index = EdgeIndex(self.position, self.parent, self.radius, bounds, resolution)

    def __len__(self) -> int:
        return len(self.parent)

    def near(self, block: Block) -> Record:
        """The nodes whose voxels are in a block's read box, in ascending order of their numbers.

        Returns
        -------
        dict
            `skeleton` uint64 (N,), `node` and `parent` int64 (N,), `position` and
            `parent_position` float64 (N, 3) z y x in nm, `radius` and `parent_radius` float64
            (N,) in nm, `voxel` int64 (N, 3) relative to the read box, `own` and `outside` bool
            (N,). A root has the parent -1, and its own position and radius as those of the parent.
            `own` is True in exactly one block of a grid: the one that writes the node's voxel.

            `edge` int64 (E,): the nodes, in this block or not, whose edge to their parent reaches
            the read box (`EdgeIndex`), with `edge_ends` int64 (E, 2), the node and its parent,
            `edge_position` float64 (E, 2, 3) and `edge_radius` float64 (E, 2) of both.
            `resolution` float64 (3,): sides of a voxel in nm.
        """
        node = self._node_index.in_box(block.read)
        parent = self.parent[node]
        above = np.where(parent < 0, node, parent)
        start, stop = np.array(block.write.start), np.array(block.write.stop)
        voxel = self.voxel[node]
        edge = self._edge_index.near(block.read)
        ends = np.stack([edge, self.parent[edge]], axis=1)
        return {
            "skeleton": self.skeleton[node],
            "node": node,
            "parent": parent,
            "position": self.position[node],
            "radius": self.radius[node],
            "parent_position": self.position[above],
            "parent_radius": self.radius[above],
            "voxel": voxel - np.array(block.read.start),
            "own": ((voxel >= start) & (voxel < stop)).all(axis=1),
            "outside": self.outside[node],
            "edge": edge,
            "edge_ends": ends,
            "edge_position": self.position[ends],
            "edge_radius": self.radius[ends],
            "resolution": np.array(self.resolution),
        }


class EdgeIndex:
    """The surroundings of each edge, found by box.

    They extend beyond the edge's two nodes by its length and the larger radius: as far as
    anything that counts as *at* the edge can be. There is one index per size of edge, so that a
    thick one near the cell body does not widen the search for thin ones.
    """

    def __init__(
        self,
        position: np.ndarray,
        parent: np.ndarray,
        radius: np.ndarray,
        bounds: Box,
        resolution: Resolution,
    ) -> None:
        child = np.flatnonzero(parent >= 0)
        ends = position[np.stack([child, parent[child]], axis=1)]  # (E, 2, 3)
        length = np.sqrt(((ends[:, 0] - ends[:, 1]) ** 2).sum(axis=1))
        beyond = (length + np.maximum(radius[child], radius[parent[child]]))[:, None]
        low = voxels_of(ends.min(axis=1) - beyond, resolution) - 1
        high = voxels_of(ends.max(axis=1) + beyond, resolution) + 1
        self._low, self._high, self._child, self._bounds = low, high, child, bounds
        middle = np.clip((low + high) // 2, bounds.start, np.array(bounds.stop) - 1)
        reach = (high - low).max(axis=1, initial=1) // 2 + 1
        sizes = np.maximum(0, np.ceil(np.log2(reach / CELL))).astype(np.int64)
        self._by_size = []
        for level in np.unique(sizes).tolist():
            of_size = np.flatnonzero(sizes == level)
            self._by_size.append((of_size, CellIndex(middle[of_size], bounds, CELL << level)))

    def near(self, box: Box) -> np.ndarray:
        """The nodes whose edge to their parent reaches a box, int64, ascending."""
        inside = box.clip(self._bounds)
        if not inside.size:
            return np.zeros(0, np.int64)
        parts = [np.zeros(0, np.int64)]
        for of_size, index in self._by_size:
            edge = of_size[index.in_box(inside.grow(zyx(index.cell)))]
            touches = (self._low[edge] < inside.stop) & (self._high[edge] >= inside.start)
            parts.append(edge[touches.all(axis=1)])
        return np.sort(self._child[np.concatenate(parts)])


class CellIndex:
    """An index of voxels, int64 (N, 3), in bounds: a search by box visits the cells it touches."""

    def __init__(self, voxel: np.ndarray, bounds: Box, cell: int = CELL) -> None:
        self._voxel, self._bounds, self.cell = voxel, bounds, cell
        self._counts = -(-np.array(bounds.shape) // cell)
        cells = self._number((voxel - np.array(bounds.start)) // cell)
        self._order = np.argsort(cells, kind="stable")
        self._cells = cells[self._order]

    def in_box(self, box: Box) -> np.ndarray:
        """Numbers of the voxels in a box, int64, ascending."""
        inside = box.clip(self._bounds)
        if not inside.size or not len(self._order):
            return np.zeros(0, np.int64)
        low = np.array(self._bounds.start)
        first = (np.array(inside.start) - low) // self.cell
        last = (np.array(inside.stop) - 1 - low) // self.cell
        rows = itertools.product(range(first[0], last[0] + 1), range(first[1], last[1] + 1))
        ends = np.array([(z, y, x) for z, y in rows for x in (first[2], last[2])])
        numbers = self._number(ends).reshape(-1, 2)
        begin = np.searchsorted(self._cells, numbers[:, 0], "left")
        end = np.searchsorted(self._cells, numbers[:, 1], "right")
        parts = [self._order[a:b] for a, b in zip(begin, end, strict=True) if a < b]
        nearby = np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))
        voxel = self._voxel[nearby]
        is_inside = (voxel >= inside.start) & (voxel < inside.stop)
        return np.asarray(nearby[is_inside.all(axis=1)])

    def _number(self, cell: np.ndarray) -> np.ndarray:
        """Row-major numbers of cells, so that a row of them along x is a range."""
        _, ny, nx = (int(count) for count in self._counts)
        return np.asarray((cell[..., 0] * ny + cell[..., 1]) * nx + cell[..., 2])


def voxels_of(position: np.ndarray, resolution: Resolution) -> np.ndarray:
    """The voxels nearest to positions (N, 3) in nm, int64 (N, 3); ties go to the later one."""
    scaled = np.floor(position / np.array(resolution) + 0.5)
    return np.asarray(np.clip(scaled, -FARTHEST, FARTHEST).astype(np.int64))


@lru_cache(maxsize=4)
def placed_nodes(path: str, content: str, bounds: Box, resolution: Resolution) -> Nodes:
    """The nodes of a set with a known digest of its content; read once per process.

    Raises
    ------
    StorageError
        If it cannot be read, or its content has changed.
    """
    skeletons, current = SkeletonSet.open(path).read_all()
    if current != content:
        raise StorageError(f"skeletons {path} changed during the run; plan and run again")
    return Nodes(skeletons, bounds, resolution)
