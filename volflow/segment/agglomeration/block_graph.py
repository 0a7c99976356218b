"""The region graph of one block, with the contacts that are pending at its faces."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from volflow.segment.agglomeration.contacts import count_contacts, number_labels
from volflow.segment.agglomeration.graph_tables import LINK, BlockGraph
from volflow.segment.pair_table import first_of_groups, group_pairs, sum_groups

Links: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def block_graph(
    labels: np.ndarray, affinity: np.ndarray, links: Links, open_faces: int
) -> BlockGraph:
    """The pieces of a block, their contacts, and the contacts across the block's low faces.

    Contacts across the high faces belong to the blocks beyond them.

    Parameters
    ----------
    labels : uint64, (Z + 2, Y + 2, X + 2)
        Pieces of the block and of a margin of one voxel; 0 is background.
    affinity : uint8, (3, Z, Y, X)
        Of the block alone; `affinity[c, z, y, x]` joins a voxel with the one before it along
        axis c.
    links : bool arrays (Y, X), (Z, X), (Z, Y)
        For the low face of each axis: whether the voxels on both sides belong to one fragment.
    open_faces : int
        The faces that are not on the bounds of the volume, as bits (see `graph_tables`).

    Returns
    -------
    BlockGraph
        Each piece is a node and its own component.
    """
    inner = (slice(1, -1), slice(1, -1), slice(1, -1))
    ids, size, numbers = number_labels(np.ascontiguousarray(labels[inner]))
    edges = count_contacts(numbers, np.ascontiguousarray(affinity), len(ids))
    faces = np.zeros(len(ids), np.uint8)
    pending = [_no_contacts()]
    for axis in range(3):
        own, outside = np.moveaxis(numbers, axis, 0), _adjacent_layers(labels, axis)
        if open_faces & (1 << 2 * axis):
            touching = (own[0] >= 0) & (outside[0] > 0)
            node = own[0][touching]
            faces[node] |= np.uint8(1 << 2 * axis)
            across = np.moveaxis(affinity[axis], axis, 0)[0][touching]
            kind = np.where(links[axis][touching], LINK, 0) | np.uint8(axis)
            pending.append(_pooled_contacts(node, outside[0][touching], across, kind))
        if open_faces & (2 << 2 * axis):
            touching = (own[-1] >= 0) & (outside[-1] > 0)
            faces[own[-1][touching]] |= np.uint8(2 << 2 * axis)
    node, piece, affinity_sum, contact, kind = map(np.concatenate, zip(*pending, strict=True))
    return BlockGraph(
        id=ids,
        size=size,
        faces=faces,
        component=ids,
        a=edges.a,
        b=edges.b,
        affinity_sum=edges.affinity_sum,
        contact=edges.contact,
        pending_node=node,
        pending_piece=piece,
        pending_sum=affinity_sum,
        pending_contact=contact,
        pending_kind=kind,
        piece=ids,
        piece_node=np.arange(len(ids), dtype=np.int32),
        piece_faces=faces,
    )


def pack_links(links: Links) -> np.ndarray:
    """The links of three faces packed into bits, uint8."""
    return np.packbits(np.concatenate([face.ravel() for face in links]))


def unpack_links(bits: np.ndarray, shape: tuple[int, int, int]) -> Links:
    """The links of the three low faces of a block, from `pack_links`; no bytes mean no links.

    Parameters
    ----------
    bits : uint8, (N,)
    shape : (int, int, int)
        Shape of the block.

    Raises
    ------
    ValueError
        If the bits are those of a block of another shape.
    """
    z, y, x = shape
    sides = ((y, x), (z, x), (z, y))
    ends = np.cumsum([a * b for a, b in sides])
    if len(bits) == 0:
        bits = np.zeros(-(-int(ends[-1]) // 8), np.uint8)
    if len(bits) != -(-int(ends[-1]) // 8):
        raise ValueError(
            f"links of a block of shape {shape}: expected {-(-int(ends[-1]) // 8)} bytes, got "
            f"{len(bits)}; fragments and their agglomeration must use the same blocks"
        )
    flat = np.unpackbits(bits, count=int(ends[-1])).astype(bool)
    parts = np.split(flat, ends[:-1])
    first, second, third = (p.reshape(side) for p, side in zip(parts, sides, strict=True))
    return first, second, third


def _adjacent_layers(labels: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The layers of voxels directly before and after the block along an axis."""
    inner = [slice(1, -1)] * 3
    inner[axis] = slice(None)
    along = np.moveaxis(labels[tuple(inner)], axis, 0)
    return along[0], along[-1]


def _pooled_contacts(
    node: np.ndarray, piece: np.ndarray, across: np.ndarray, kind: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Contacts across a face, pooled to one row per pair of node and piece."""
    names, number = np.unique(piece, return_inverse=True)
    group, count = group_pairs(node, number + (int(node.max()) + 1 if len(node) else 0))
    first = first_of_groups(group, count)
    kinds = kind[first]
    np.bitwise_or.at(kinds, group, kind)
    contact = np.bincount(group, minlength=count).astype(np.int64)
    return node[first], names[number[first]], sum_groups(group, count, across), contact, kinds


def _no_contacts() -> tuple[np.ndarray, ...]:
    dtypes = (np.int32, np.uint64, np.int64, np.int64, np.uint8)
    return tuple(np.zeros(0, dtype) for dtype in dtypes)
