"""Nodes of a set of skeletons where they lie in a volume: each in one voxel, found by box.

A voxel's middle lies at its index times the resolution. A node belongs to the voxel whose middle
is nearest, and where that is outside the bounds, to the nearest voxel inside.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np

from volflow.core.geometry import Block, Box
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Record
from volflow.errors import StorageError
from volflow.io.skeletons import SkeletonSet

Resolution = tuple[float, float, float]

CELL = 64  # voxels a side; nodes are looked up by the cells that a box touches
FARTHEST = 2.0**60  # voxels; what lies beyond counts as there
AXIS_ORDERS = {"as they are": (0, 1, 2), "x and z swapped": (2, 1, 0)}
NODE_BYTES = 160  # of memory for a node: its columns, its place in the index, and some of both
ENOUGH = 0.5  # share of the nodes within the bounds from which their unit is believed


class Nodes:
    """All nodes of a set in one flat order: by skeleton, then as each is stored.

    Attributes
    ----------
    skeleton : uint64 array, (N,)
        The name of each node's skeleton.
    parent : int64 array, (N,)
        Number of the parent, -1 at a root.
    position : float64 array, (N, 3)
        z, y, x in nanometres.
    radius : float64 array, (N,)
        Nanometres; 0 where it is not known.
    voxel : int64 array, (N, 3)
        The voxel of each node, within the bounds.
    outside : bool array, (N,)
        Whether the node itself lies outside the bounds.
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
        self.bounds = bounds
        nearest = voxels_of(self.position, resolution)
        low, high = np.array(bounds.start), np.array(bounds.stop) - 1
        self.voxel = np.clip(nearest, low, high)
        self.outside = (nearest != self.voxel).any(axis=1)
        self._counts = -(-np.array(bounds.shape) // CELL)
        cells = self._number((self.voxel - low) // CELL)
        self._order = np.argsort(cells, kind="stable")
        self._cells = cells[self._order]

    def __len__(self) -> int:
        return len(self.parent)

    def near(self, block: Block) -> Record:
        """The nodes whose voxels lie in a block's read box, ascending by number.

        Returns
        -------
        dict
            `skeleton` uint64 (N,), `node` and `parent` int64 (N,), `position` and
            `parent_position` float64 (N, 3) z y x in nm, `radius` and `parent_radius` float64
            (N,) in nm, `voxel` int64 (N, 3) relative to the read box, `own` and `outside` bool
            (N,). A root has -1 as parent and is its own in place and radius. A node is the own
            one of exactly one block of a grid: that which writes its voxel.
        """
        node = self._within(block.read)
        parent = self.parent[node]
        above = np.where(parent < 0, node, parent)
        start, stop = np.array(block.write.start), np.array(block.write.stop)
        voxel = self.voxel[node]
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
        }

    def _within(self, box: Box) -> np.ndarray:
        """Numbers of the nodes whose voxels lie in a box, ascending; looks at its cells only."""
        inside = box.clip(self.bounds)
        if not inside.size or not len(self):
            return np.zeros(0, np.int64)
        low = np.array(self.bounds.start)
        first = (np.array(inside.start) - low) // CELL
        last = (np.array(inside.stop) - 1 - low) // CELL
        rows = itertools.product(range(first[0], last[0] + 1), range(first[1], last[1] + 1))
        ends = np.array([(z, y, x) for z, y in rows for x in (first[2], last[2])])
        numbers = self._number(ends).reshape(-1, 2)
        begin = np.searchsorted(self._cells, numbers[:, 0], "left")
        end = np.searchsorted(self._cells, numbers[:, 1], "right")
        parts = [self._order[a:b] for a, b in zip(begin, end, strict=True)]
        node = np.sort(np.concatenate(parts))
        voxel = self.voxel[node]
        start, stop = np.array(inside.start), np.array(inside.stop)
        return np.asarray(node[((voxel >= start) & (voxel < stop)).all(axis=1)])

    def _number(self, cell: np.ndarray) -> np.ndarray:
        """Row-major numbers of cells, so that a row of them along x is a range."""
        _, ny, nx = (int(count) for count in self._counts)
        return np.asarray((cell[..., 0] * ny + cell[..., 1]) * nx + cell[..., 2])


def voxels_of(position: np.ndarray, resolution: Resolution) -> np.ndarray:
    """The voxels nearest to positions (N, 3) in nm, int64 (N, 3); one in between is the later."""
    scaled = np.floor(position / np.array(resolution) + 0.5)
    found: np.ndarray = np.clip(scaled, -FARTHEST, FARTHEST).astype(np.int64)
    return found


@lru_cache(maxsize=4)
def placed_nodes(path: str, content: str, bounds: Box, resolution: Resolution) -> Nodes:
    """The nodes of a set whose content is known; read once per process.

    Raises
    ------
    StorageError
        If it cannot be read, or holds something else by now.
    """
    skeletons, found = SkeletonSet.open(path).read_all()
    if found != content:
        raise StorageError(f"skeletons {path} changed while they were in use; plan and run again")
    return Nodes(skeletons, bounds, resolution)


# --- units ---------------------------------------------------------------------------------------


def misplaced(nodes: Nodes, resolution: Resolution) -> str:
    """What is wrong with where nodes lie, in words, and in which unit they would fit.

    Empty if at least half of them lie within the bounds.
    """
    count, away = len(nodes), int(nodes.outside.sum())
    if not count:
        return "there are no nodes in it"
    if away <= count * ENOUGH:
        return ""
    low, high = nodes.position.min(axis=0), nodes.position.max(axis=0)
    size = np.array(resolution)
    first, last = np.array(nodes.bounds.start) * size, np.array(nodes.bounds.stop) * size
    return (
        f"{away} of {count} nodes lie outside the volume: they span {_span(low, high)} nm "
        f"(z, y, x) and the volume {_span(first, last)} nm; {_guess(nodes, resolution)}"
    )


def _guess(nodes: Nodes, resolution: Resolution) -> str:
    """The unit and order of axes in which most nodes would lie within the bounds."""
    units = {
        "nanometres": (1.0, 1.0, 1.0),
        f"voxels of {_listed(resolution)} nm": resolution,
        "micrometres": (1e3, 1e3, 1e3),
        "angstroms": (0.1, 0.1, 0.1),
        "millimetres": (1e6, 1e6, 1e6),
        "metres": (1e9, 1e9, 1e9),
    }
    best, words = ENOUGH, ""
    for (order, axes), (unit, factor) in itertools.product(AXIS_ORDERS.items(), units.items()):
        voxel = voxels_of(nodes.position[:, axes] * np.array(factor), resolution)
        low, high = np.array(nodes.bounds.start), np.array(nodes.bounds.stop)
        share = float(((voxel >= low) & (voxel < high)).all(axis=1).mean())
        if share > best + 1e-9:
            best = share
            words = f"read as {unit}, axes {order}, {share:.0%} of them would lie inside"
    advice = "unit_nm and axis_order of the address say how SWC files are read"
    return f"{words or 'no unit or order of axes tried brings half of them inside'}; {advice}"


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:.6g} to {b:.6g}" for a, b in zip(low, high, strict=True))


def _listed(values: Resolution) -> str:
    return " x ".join(f"{value:g}" for value in values)
