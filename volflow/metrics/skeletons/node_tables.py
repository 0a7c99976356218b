"""Tables of skeleton nodes and of structures at them, which are made by block and joined.

    node, skeleton, parent, position, radius, label, outside     the nodes in a block
    mito_node                                                    nodes at a mitochondrion
    cleft_voxel, cleft                                           voxels of clefts
    node_nucleus; nucleus, nucleus_voxels, nucleus_sum           nuclei at nodes; exact sums

The table of the whole volume does not depend on the order in which parts are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Box, Triple
from volflow.core.stage import Record
from volflow.metrics.skeletons.forest import SkeletonForest
from volflow.metrics.skeletons.nerl import Nuclei
from volflow.metrics.skeletons.nodes_at_mitochondria import mito_nodes

NODES = (
    "node", "skeleton", "parent", "position", "radius", "label", "node_nucleus",
)  # fmt: skip
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # constants of splitmix64


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """The joined table of a whole volume, and the skeletons in it.

    Attributes
    ----------
    record : Record
        The columns, nodes sorted by number.
    forest : SkeletonForest
        Its nodes are the rows; skeletons are sorted by name.
    label : uint64 array, (N,)
        The segment at each node.
    """

    record: Record
    forest: SkeletonForest
    label: np.ndarray

    @classmethod
    def of(cls, record: Record) -> NodeTable:
        """Sort the nodes of a joined table.

        Raises
        ------
        ValueError
            If a node is missing or occurs twice.
        """
        order = np.argsort(record["node"], kind="stable")
        if not np.array_equal(record["node"][order], np.arange(len(order))):
            raise ValueError(
                f"nodes: expected each of 0..{len(order) - 1} once, in {len(order)} rows"
            )
        whole = {
            name: column[order] if name in NODES else column for name, column in record.items()
        }
        names, skeleton = np.unique(whole["skeleton"], return_inverse=True)
        forest = SkeletonForest(
            tuple(names.tolist()), skeleton, whole["position"], whole["parent"], whole["radius"]
        )
        return cls(whole, forest, whole["label"])


def join_tables(records: Sequence[Record]) -> Record:
    """Join the tables of disjoint parts of a volume."""
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


# --- structures in a block ------------------------------------------------------------------------


def voxel_centres_nm(voxel: np.ndarray, resolution: tuple[float, float, float]) -> np.ndarray:
    """Centres of voxels (N, 3) in nanometres: voxel i is centred at i times its side."""
    return np.asarray(voxel * np.array(resolution))


def lattice_voxels(labels: np.ndarray, box: Box, stride: Triple) -> np.ndarray:
    """Absolute indices, int64 (N, 3), of labelled voxels on a lattice.

    Parameters
    ----------
    labels : integer array, (Z, Y, X)
        Of `box`; 0 is unlabelled.
    box : Box
    stride : Triple
        Spacing of the lattice along each axis, in voxels; it contains voxel 0, 0, 0.
    """
    first = [-start % step for start, step in zip(box.start, stride, strict=True)]
    lattice = labels[first[0] :: stride[0], first[1] :: stride[1], first[2] :: stride[2]]
    return np.asarray(np.argwhere(lattice) * stride + first + np.array(box.start))


def sampled_voxels(labels: np.ndarray, box: Box, share: int) -> tuple[np.ndarray, np.ndarray]:
    """About one in `share` of the labelled voxels, chosen by a hash of their position.

    A lattice would miss thin sheets between its planes.

    Parameters
    ----------
    labels : integer array, (Z, Y, X)
        Of `box`; 0 is unlabelled.
    box : Box
    share : int
        1 for all voxels.

    Returns
    -------
    voxel : int64 array, (N, 3)
        Absolute indices.
    label : uint64 array, (N,)
    """
    voxel = np.argwhere(labels)
    label = labels[tuple(voxel.T)].astype(np.uint64)
    voxel += box.start
    if share == 1:
        return voxel, label
    chosen = _hash(voxel) % np.uint64(share) == 0
    return voxel[chosen], label[chosen]


def mito_node_numbers(record: Record, points: np.ndarray) -> np.ndarray:
    """Numbers of the nodes with one of these points in the tube around one of their edges.

    Parameters
    ----------
    record : Record
        Columns `edge_ends`, `edge_position` and `edge_radius` of the edges that reach into the
        block of the points, or of more edges.
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
    """Number of voxels, and exact sums of their indices, of each nucleus in a box.

    Returns
    -------
    dict
        `nucleus` uint64 (K,), `nucleus_voxels` int64 (K,), `nucleus_sum` int64 (K, 3) of absolute
        indices.
    """
    voxel = np.argwhere(labels)
    names, group = np.unique(labels[tuple(voxel.T)], return_inverse=True)
    count = np.bincount(group, minlength=len(names)).astype(np.int64)
    # indices within the box, whose sums are exact in the floats that bincount adds
    sums = [np.bincount(group, weights=column, minlength=len(names)) for column in voxel.T]
    inside = np.stack(sums, axis=1).astype(np.int64)
    total = inside + count[:, None] * np.array(box.start, np.int64)
    return {
        "nucleus": names.astype(np.uint64),
        "nucleus_voxels": count,
        "nucleus_sum": total,
    }


def find_nuclei(table: NodeTable, resolution: tuple[float, float, float]) -> Nuclei:
    """The nucleus of each skeleton: the one with most of its nodes, the lower label first.

    The centre is the mean of the voxels, the radius that of a ball of the same volume.
    """
    record, owner = table.record, table.forest.skeleton
    count = len(table.forest.names)
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
    """A hash of each position, uint64 (N,)."""
    mixed = np.zeros(len(voxel), np.uint64)
    for column in voxel.T.astype(np.uint64):  # negative indices wrap around
        mixed = (mixed ^ column) + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in zip((30, 27), _MIX, strict=True):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return mixed
