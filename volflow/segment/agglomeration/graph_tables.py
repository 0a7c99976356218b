"""The part of a region graph inside one box of the volume, as columns that can be stored.

    nodes     clusters with voxels in the box
    edges     contacts between them
    pending   contacts across the low faces of the box: the piece on the other side is known, but
              not yet its cluster
    pieces    the pieces that touch the high faces, and the cluster of each: they resolve the
              pending contacts of the neighbours

Faces are bits: 1 << (2 * axis) is the low face of an axis, 2 << (2 * axis) the high one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from volflow.core.geometry import Box, zyx
from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.greedy import pool_edges
from volflow.segment.agglomeration.renaming import Renaming
from volflow.segment.pair_table import first_of_groups, group_pairs, sum_groups
from volflow.segment.union_find import components

HIGH_FACES = np.uint8(0b101010)
DECIDED = np.uint8(0b1000000)  # in place of faces: a node that has chosen its edge of this round
AXIS, LINK = np.uint8(0b011), np.uint8(0b100)  # bits of `pending_kind`


@dataclass(frozen=True)
class BlockGraph:
    """Nodes, edges, pending contacts and face pieces of one box.

    Ids are those at the start of a round; `component` is the cluster that each node belongs to
    since then, as far as it is known within this box. Nodes are ascending by id; other columns
    refer to them by position.
    """

    id: np.ndarray  # uint64, (N,)
    size: np.ndarray  # int64, voxels inside the box
    faces: np.ndarray  # uint8, faces across which the node has contacts
    component: np.ndarray  # uint64, the largest id of the component
    a: np.ndarray  # int32, (E,)
    b: np.ndarray  # int32
    affinity_sum: np.ndarray  # int64
    contact: np.ndarray  # int64
    pending_node: np.ndarray  # int32, (Q,)
    pending_piece: np.ndarray  # uint64, the piece beyond the face
    pending_sum: np.ndarray  # int64
    pending_contact: np.ndarray  # int64
    pending_kind: np.ndarray  # uint8, AXIS of the face, LINK if both are parts of one fragment
    piece: np.ndarray  # uint64, (P,)
    piece_node: np.ndarray  # int32
    piece_faces: np.ndarray  # uint8

    @property
    def edges(self) -> EdgeTable:
        """The edges as a table."""
        return EdgeTable(self.a, self.b, self.affinity_sum, self.contact)

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> BlockGraph:
        """The graph of a record made by `record`, which may have further columns."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})

    @classmethod
    def settled(
        cls, stored: dict[str, np.ndarray], received: dict[str, np.ndarray] | None
    ) -> BlockGraph:
        """The graph of a record with the final components received from the boxes above."""
        graph = cls.from_record(stored)
        return replace(graph, component=Renaming.from_record(received)(graph.component))

    def with_edges(self, edges: EdgeTable) -> BlockGraph:
        """The graph with other edges."""
        return replace(
            self,
            a=edges.a.astype(np.int32),
            b=edges.b.astype(np.int32),
            affinity_sum=edges.affinity_sum,
            contact=edges.contact,
        )

    def with_pending(self, rows: np.ndarray) -> BlockGraph:
        """The graph with a selection of its pending contacts."""
        return replace(
            self,
            pending_node=self.pending_node[rows],
            pending_piece=self.pending_piece[rows],
            pending_sum=self.pending_sum[rows],
            pending_contact=self.pending_contact[rows],
            pending_kind=self.pending_kind[rows],
        )

    def with_pieces(self, rows: np.ndarray) -> BlockGraph:
        """The graph with a selection of its pieces."""
        return replace(
            self,
            piece=self.piece[rows],
            piece_node=self.piece_node[rows],
            piece_faces=self.piece_faces[rows],
        )

    def with_nodes(self, selected: np.ndarray) -> BlockGraph:
        """The graph with the selected nodes (bool, (N,)) and the edges between them.

        The nodes of all pending contacts and pieces must be selected.
        """
        number = (np.cumsum(selected) - 1).astype(np.int32)
        edges = self.edges.rows(selected[self.a] & selected[self.b])
        smaller = replace(
            self,
            id=self.id[selected],
            size=self.size[selected],
            faces=self.faces[selected],
            component=self.component[selected],
            pending_node=number[self.pending_node],
            piece_node=number[self.piece_node],
        )
        return smaller.with_edges(edges._replace(a=number[edges.a], b=number[edges.b]))

    def contracted(self) -> BlockGraph:
        """The graph whose nodes are the components of this graph."""
        ids, number = np.unique(self.component, return_inverse=True)
        number = number.astype(np.int32)
        size = sum_groups(number, len(ids), self.size)
        faces = np.zeros(len(ids), np.uint8)
        np.bitwise_or.at(faces, number, self.faces)
        edges = self.edges._replace(a=number[self.a], b=number[self.b])
        renamed = replace(
            self,
            id=ids,
            size=size,
            faces=faces,
            component=ids,
            pending_node=number[self.pending_node],
            piece_node=number[self.piece_node],
        )
        return renamed.with_edges(pool_edges(edges)).with_pooled_pending()

    def with_pooled_pending(self) -> BlockGraph:
        """The graph with one pending contact per pair of node and piece."""
        column = np.unique(self.pending_piece, return_inverse=True)[1]
        # Nodes and pieces get disjoint numbers, so that unordered pairs identify them.
        group, count = group_pairs(self.pending_node, column + len(self.id))
        if count == len(group):
            return self
        first = first_of_groups(group, count)
        return replace(
            self,
            pending_node=self.pending_node[first],
            pending_piece=self.pending_piece[first],
            pending_sum=sum_groups(group, count, self.pending_sum),
            pending_contact=sum_groups(group, count, self.pending_contact),
            pending_kind=self.pending_kind[first],
        )


@dataclass(frozen=True)
class Gathered:
    """The combined graph of a node's children.

    `passed` are the components that each child passed up, ascending; `members` is, for each of
    them, the position of one of its nodes in the graph.
    """

    graph: BlockGraph
    passed: tuple[np.ndarray, ...]
    members: tuple[np.ndarray, ...]


def with_box(record: dict[str, np.ndarray], box: Box) -> dict[str, np.ndarray]:
    """The record with the box that it covers."""
    return {**record, "box": np.array([*box.start, *box.stop], np.int64)}


def box_of(record: dict[str, np.ndarray]) -> Box:
    """The box of a record from `with_box`."""
    corners = record["box"].tolist()
    return Box(zyx(corners[:3]), zyx(corners[3:]))


def shared_faces(inner: Box, outer: Box) -> int:
    """Bit mask of the inner box's faces that are on faces of the outer box, with DECIDED set."""
    bits = int(DECIDED)
    for axis in range(3):
        bits |= (inner.start[axis] == outer.start[axis]) << (2 * axis)
        bits |= (inner.stop[axis] == outer.stop[axis]) << (2 * axis + 1)
    return bits


def gather(children: Sequence[tuple[BlockGraph, Box]], box: Box, bounds: Box) -> Gathered:
    """Combine the graphs of the parts of a box, and resolve contacts pending between them.

    Parameters
    ----------
    children : pairs of BlockGraph and Box
        Disjoint boxes that make up `box`.
    box : Box
    bounds : Box
        The volume; nothing is pending at its faces.
    """
    graphs = [graph for graph, _ in children]
    outer = shared_faces(box, bounds) & ~int(DECIDED)
    inside = [np.uint8(shared_faces(part, box) & ~outer) for _, part in children]
    rows = _concatenate(graphs, inside)
    ids, number = np.unique(rows.id, return_inverse=True)
    number = number.astype(np.int32)
    faces = np.zeros(len(ids), np.uint8)
    np.bitwise_or.at(faces, number, rows.faces)
    graph = replace(
        rows,
        id=ids,
        size=sum_groups(number, len(ids), rows.size),
        faces=faces,
        component=_common_components(ids, number, rows.component),
        a=number[rows.a],
        b=number[rows.b],
        pending_node=number[rows.pending_node],
        piece_node=number[rows.piece_node],
    )
    graph = _resolved(graph)
    graph = graph.with_pending((np.uint8(outer) >> (2 * (graph.pending_kind & AXIS))) & 1 == 0)
    graph = graph.with_edges(pool_edges(graph.edges))
    graph = graph.with_pieces((graph.piece_faces & HIGH_FACES) != 0)
    passed, members, start = [], [], 0
    for child in graphs:
        names, first = np.unique(child.component, return_index=True)
        passed.append(names)
        members.append(number[start : start + len(child.id)][first])
        start += len(child.id)
    return Gathered(graph, tuple(passed), tuple(members))


def _concatenate(graphs: Sequence[BlockGraph], inside: Sequence[np.uint8]) -> BlockGraph:
    """The rows of all graphs, with nodes renumbered and the bits of interior faces cleared."""
    starts = np.cumsum([0] + [len(graph.id) for graph in graphs]).astype(np.int32)
    columns: dict[str, np.ndarray] = {}
    for field in fields(BlockGraph):
        parts = [getattr(graph, field.name) for graph in graphs]
        if field.name in ("a", "b", "pending_node", "piece_node"):
            parts = [part + start for part, start in zip(parts, starts[:-1], strict=True)]
        elif field.name in ("faces", "piece_faces"):
            parts = [part & bits for part, bits in zip(parts, inside, strict=True)]
        columns[field.name] = np.concatenate(parts)
    return BlockGraph(**columns)


def _common_components(ids: np.ndarray, number: np.ndarray, component: np.ndarray) -> np.ndarray:
    """The component of each node; a node may be in components of several children."""
    names, at = np.unique(np.concatenate([ids, component]), return_inverse=True)
    own, named = at[: len(ids)], at[len(ids) :]
    root = components(len(names), own[number], named)
    common: np.ndarray = names[root[own]]
    return common


def _resolved(graph: BlockGraph) -> BlockGraph:
    """The graph with an edge for each pending contact whose other side is now known."""
    order = np.argsort(graph.piece)
    piece, node = graph.piece[order], graph.piece_node[order]
    if len(piece) == 0 or len(graph.pending_piece) == 0:
        return graph
    at = np.minimum(np.searchsorted(piece, graph.pending_piece), len(piece) - 1)
    known = piece[at] == graph.pending_piece
    resolved = graph.with_pending(known)
    edges = EdgeTable(
        np.concatenate([graph.a, resolved.pending_node]),
        np.concatenate([graph.b, node[at[known]]]),
        np.concatenate([graph.affinity_sum, resolved.pending_sum]),
        np.concatenate([graph.contact, resolved.pending_contact]),
    )
    return graph.with_edges(edges).with_pending(~known)
