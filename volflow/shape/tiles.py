"""The skeleton of a segment that is too large for one array: tile by tile of the lattice, joined.

|-------|-------|    tiles are fixed by the lattice; neighbours share a plane of voxels, and on it
|   ____x___    |    the middle x of each patch of the segment, where the skeletons of both meet
|__/    |   ____|
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from volflow.core.geometry import Triple
from volflow.core.stage import Record
from volflow.shape.runs import box_of

FACES = tuple((axis, side) for axis in range(3) for side in ("low", "high"))


def tile_side(budget: int) -> int:
    """The side of a tile of at most that many voxels, the shared planes included."""
    side = 2
    while (side + 1) ** 3 <= budget:
        side += 1
    return side - 1


def tile_masks(runs: Record, side: int) -> Iterator[tuple[np.ndarray, Triple]]:
    """The masks of a segment in each tile that it reaches, uint8, and their first voxels.

    A tile covers the lattice voxels n * side to (n + 1) * side of each axis, both included.

    Parameters
    ----------
    runs : Record
        Merged runs of one segment.
    side : int
        At least 1.
    """
    start, shape = box_of(runs)
    first = (start - 1) // side  # a voxel on a shared plane is in the tile before it, too
    last = (start + shape - 1) // side
    for cz in range(int(first[0]), int(last[0]) + 1):
        slab = _chosen(runs, (runs["z"] >= cz * side) & (runs["z"] <= (cz + 1) * side))
        for cy in range(int(first[1]), int(last[1]) + 1):
            bar = _chosen(slab, (slab["y"] >= cy * side) & (slab["y"] <= (cy + 1) * side))
            if not len(bar["z"]):
                continue
            for cx in range(int(first[2]), int(last[2]) + 1):
                low, high = cx * side, (cx + 1) * side + 1
                own = _chosen(bar, (bar["x"] < high) & (bar["stop"] > low))
                if len(own["z"]):
                    origin = (cz * side, cy * side, low)
                    yield _painted(own, origin, side), origin


def tiled_forest(
    library: Any,
    runs: Record,
    side: int,
    spacing: tuple[float, float, float],
    scale: float,
    constant: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The forest of a segment, from skeletons of its tiles that meet on the planes between them.

    Parameters
    ----------
    library : module
        `bioimage_cpp.skeleton.distributed`.
    runs : Record
        Merged runs of one segment.
    side : int
        Of a tile in lattice voxels.
    spacing : (float, float, float)
        Nanometres per lattice voxel, z, y, x.
    scale, constant : float
        See `skeletonize`.

    Returns
    -------
    position : float64, (N, 3)
        Nanometres from lattice voxel 0, z, y, x.
    edges : int64, (E, 2)
    radius : float64, (N,)
        Nanometres.
    """
    fragments = []
    for mask, origin in tile_masks(runs, side):
        targets = library.block_border_targets(mask, FACES, origin=origin, spacing=spacing)
        fragments.append(
            library.block_teasar(
                mask,
                open_faces=FACES,
                origin=origin,
                required_targets=targets,
                spacing=spacing,
                scale=scale,
                constant=0.0,  # ends that are near a plane are paths; `covering_paths` chooses
            )
        )
    merged = library.merge_block_skeletons(fragments)
    position, edges, radius = library.lattice_to_physical(merged, spacing=spacing)
    graph = position, edges.astype(np.int64), radius.astype(np.float64)
    return covering_paths(*graph, scale, constant)


def covering_paths(
    position: np.ndarray,
    edges: np.ndarray,
    radius: np.ndarray,
    scale: float,
    constant_nm: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A forest of shortest paths that covers a graph, as TEASAR chooses paths in a segment.

    In each connected part, the first path leads from a node farthest from any other to the node
    farthest from it. A path covers the nodes within `scale` times the radius plus `constant_nm` of
    its own, along each axis. The next path leads from the farthest node that is not covered to the
    paths before it.

    Parameters
    ----------
    position : float64, (N, 3)
        Nanometres.
    edges : int64, (E, 2)
        May form cycles.
    radius : float64, (N,)
        Nanometres.
    scale, constant_nm : float

    Returns
    -------
    position, edges, radius
        Those of the nodes on paths, in their order.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, dijkstra
    from scipy.spatial import cKDTree

    nodes = len(position)
    lengths = np.linalg.norm(position[edges[:, 0]] - position[edges[:, 1]], axis=1)
    graph = coo_array((lengths, edges.T), shape=(nodes, nodes)).tocsr()
    _, part = connected_components(graph, directed=False)
    first = np.unique(part, return_index=True)[1]
    from_first = dijkstra(graph, directed=False, indices=first, min_only=True)
    order = np.lexsort((-np.arange(nodes), from_first, part))
    roots = order[np.flatnonzero(np.diff(part[order], append=-1))]  # the farthest of each part
    distance, above, _ = dijkstra(
        graph, directed=False, indices=roots, min_only=True, return_predecessors=True
    )
    tree = cKDTree(position)
    reach = scale * radius + constant_nm
    on_path, covered = np.zeros(nodes, bool), np.zeros(nodes, bool)
    on_path[roots] = True
    for tip in np.lexsort((np.arange(nodes), -distance)).tolist():
        if covered[tip]:
            continue
        path = [tip]
        while not on_path[path[-1]]:
            on_path[path[-1]] = True
            path.append(int(above[path[-1]]))
        near = tree.query_ball_point(position[path], reach[path], p=np.inf)
        covered[np.concatenate([np.asarray(each, np.int64) for each in near])] = True
        covered[path] = True
    chosen = np.flatnonzero(on_path)
    number = np.cumsum(on_path) - 1
    child = chosen[above[chosen] >= 0]
    pairs = np.stack([number[child], number[above[child]]], axis=1)
    return position[chosen], pairs, radius[chosen]


def _chosen(runs: Record, which: np.ndarray) -> Record:
    return {name: column[which] for name, column in runs.items()}


def _painted(runs: Record, origin: Triple, side: int) -> np.ndarray:
    """The mask of a tile, uint8 (side + 1, side + 1, side + 1)."""
    width = side + 1
    row = (runs["z"] - origin[0]) * width + runs["y"] - origin[1]
    edges = np.zeros(width**3 + 1, np.int8)
    edges[row * width + np.maximum(runs["x"] - origin[2], 0)] += 1
    edges[row * width + np.minimum(runs["stop"] - origin[2], width)] -= 1
    mask: np.ndarray = np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
    return mask.reshape(width, width, width)
