"""What blocks tell of skeletons, as tables that add up: nodes, and what lies at them.

    node, skeleton, parent, position, radius, label, outside     the nodes a block owns
    mito_node                                                    nodes at a mitochondrion
    cleft_voxel, cleft                                           voxels of clefts
    node_nucleus; nucleus, nucleus_voxels, nucleus_sum           nuclei under nodes; exact sums

Tables of parts are joined in any order and grouping to the same table of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Box, Triple
from volflow.core.stage import Record
from volflow.metrics.skeletons.edge_index import mito_nodes
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei

NODES = (
    "node", "skeleton", "parent", "position", "radius", "label", "node_nucleus",
)  # fmt: skip
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64's


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """The joined table of a whole volume, and the skeletons in it.

    Attributes
    ----------
    record : Record
        The columns, nodes in the order of their numbers.
    traced : Traced
        Its nodes are the rows; skeletons in the order of their names.
    label : uint64 array, (N,)
        The segment at each node.
    """

    record: Record
    traced: SkeletonForest
    label: np.ndarray

    @classmethod
    def of(cls, record: Record) -> NodeTable:
        """Put the nodes of a joined table in order.

        Raises
        ------
        ValueError
            If a node is missing or there twice.
        """
        order = np.argsort(record["node"], kind="stable")
        if not np.array_equal(record["node"][order], np.arange(len(order))):
            raise ValueError(f"{len(order)} nodes are not those numbered 0..{len(order) - 1}")
        whole = {
            name: column[order] if name in NODES else column for name, column in record.items()
        }
        names, skeleton = np.unique(whole["skeleton"], return_inverse=True)
        traced = SkeletonForest(
            tuple(names.tolist()), skeleton, whole["position"], whole["parent"], whole["radius"]
        )
        return cls(whole, traced, whole["label"])


def joined(records: Sequence[Record]) -> Record:
    """The table of several disjoint parts of a volume."""
    first = records[0]
    together = {
        name: np.concatenate([record[name] for record in records])
        for name in first
        if name != "resolution"
    }
    together["resolution"] = first["resolution"]
    together["outside"] = together["outside"].sum(keepdims=True)
    if "mito_node" in first:
        together["mito_node"] = np.unique(together["mito_node"])
    if "nucleus" in first:
        names, group = np.unique(together["nucleus"], return_inverse=True)
        for name in ("nucleus_voxels", "nucleus_sum"):
            column = together[name]
            total = np.zeros((len(names), *column.shape[1:]), np.int64)
            np.add.at(total, group, column)
            together[name] = total
        together["nucleus"] = names
    return together


# --- what lies in a block ------------------------------------------------------------------------


def place_nm(voxel: np.ndarray, resolution: tuple[float, float, float]) -> np.ndarray:
    """Middles of voxels (N, 3) in nanometres, as nodes are placed."""
    return np.asarray(voxel * np.array(resolution))


def thinned(labels: np.ndarray, box: Box, stride: Triple) -> np.ndarray:
    """Labelled voxels whose indices are multiples of a stride, int64 (N, 3), absolute.

    Parameters
    ----------
    labels : integer array, (Z, Y, X)
        Over `box`; 0 is unlabelled.
    box : Box
    stride : Triple
        Voxels along each axis.
    """
    first = [-start % step for start, step in zip(box.start, stride, strict=True)]
    lattice = labels[first[0] :: stride[0], first[1] :: stride[1], first[2] :: stride[2]]
    return np.asarray(np.argwhere(lattice) * stride + first + np.array(box.start))


def hashed_share(labels: np.ndarray, box: Box, share: int) -> tuple[np.ndarray, np.ndarray]:
    """About one in `share` of the labelled voxels, chosen by where they lie alone.

    A lattice would miss thin sheets between its planes altogether.

    Returns
    -------
    voxel : int64 array, (N, 3)
        Absolute.
    label : uint64 array, (N,)
    """
    voxel = np.argwhere(labels)
    label = labels[tuple(voxel.T)].astype(np.uint64)
    voxel += box.start
    if share == 1:
        return voxel, label
    kept = _hash(voxel) % np.uint64(share) == 0
    return voxel[kept], label[kept]


def at_mitochondria(record: Record, points: np.ndarray) -> np.ndarray:
    """Numbers of the nodes that have one of these points in the tube around one of their edges.

    Parameters
    ----------
    record : Record
        Of the block that holds the points: `edge_ends`, `edge_position` and `edge_radius` of at
        least the edges that reach it.
    points : float64 array, (M, 3)
        z, y, x in nanometres.

    Returns
    -------
    int64 array, ascending
    """
    ends = record["edge_ends"]
    if not len(ends) or not len(points):
        return np.zeros(0, np.int64)
    node, first, place = np.unique(ends, return_index=True, return_inverse=True)
    child, parent = place.reshape(-1, 2).T
    above = np.full(len(node), -1)
    above[child] = parent
    near = SkeletonForest(
        (0,),
        np.zeros(len(node), np.int64),
        record["edge_position"].reshape(-1, 3)[first],
        above,
        record["edge_radius"].ravel()[first],
    )
    return np.asarray(node[mito_nodes(near, points)])


# --- nuclei --------------------------------------------------------------------------------------


def nuclei_sums(labels: np.ndarray, box: Box) -> Record:
    """Of each nucleus in a box its voxels, and the sums of their indices, exactly.

    Returns
    -------
    dict
        `nucleus` uint64 (K,), `nucleus_voxels` int64 (K,), `nucleus_sum` int64 (K, 3), absolute.
    """
    voxel = np.argwhere(labels)
    names, group = np.unique(labels[tuple(voxel.T)], return_inverse=True)
    count = np.bincount(group, minlength=len(names)).astype(np.int64)
    # indices within the box: sums of them are exact in the floats that bincount adds
    sums = [np.bincount(group, weights=column, minlength=len(names)) for column in voxel.T]
    inside = np.stack(sums, axis=1).astype(np.int64)
    total = inside + count[:, None] * np.array(box.start, np.int64)
    return {
        "nucleus": names.astype(np.uint64),
        "nucleus_voxels": count,
        "nucleus_sum": total,
    }


def nuclei_of(table: NodeTable, resolution: tuple[float, float, float]) -> Nuclei:
    """The nucleus of each skeleton: the one that holds most of its nodes, the lower label first.

    Its centre is the mean of its voxels, its radius that of a ball of the same volume.
    """
    record, owner = table.record, table.traced.skeleton
    count = len(table.traced.names)
    centre, radius = np.full((count, 3), np.nan), np.full(count, np.nan)
    inside = record["node_nucleus"] > 0
    pairs = np.stack([owner[inside].astype(np.uint64), record["node_nucleus"][inside]], axis=1)
    pairs, nodes = np.unique(pairs, axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -nodes, pairs[:, 0]))
    skeleton, best = np.unique(pairs[order, 0], return_index=True)
    chosen = np.searchsorted(record["nucleus"], pairs[order[best], 1])
    size = np.array(resolution)
    voxels = record["nucleus_voxels"][chosen]
    here = skeleton.astype(np.int64)
    centre[here] = record["nucleus_sum"][chosen] / voxels[:, None] * size
    radius[here] = np.cbrt(3 * voxels * size.prod() / (4 * np.pi))
    return Nuclei(centre, radius)


def _hash(voxel: np.ndarray) -> np.ndarray:
    """A hash of each place, uint64 (N,)."""
    mixed = np.zeros(len(voxel), np.uint64)
    for column in voxel.T.astype(np.uint64):  # negative indices wrap around
        mixed = (mixed ^ column) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return mixed
