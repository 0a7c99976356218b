"""Segments joined across the planes of a horizon.

A box knows all contacts across its low planes, so it alone decides which segments join there. After
that, only the following rows are needed, one per segment at an open plane:

          box A                |                box B
    key a, name a: a is at a   |  key a, name b: a is beyond a low plane,
    high plane, called a here  |  and is joined to the segment called b here

Rows with the same key are one component. A row is needed only while its plane is open, so a node
passes up the segments at its surface and none of those inside, however often the segments of a
component touch there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.graph_tables import AXIS, HIGH_FACES, BlockGraph, shared_faces
from volflow.segment.agglomeration.renaming import Renaming
from volflow.segment.agglomeration.rounds import Step
from volflow.segment.pair_table import sum_groups
from volflow.segment.union_find import components


@dataclass(frozen=True)
class PlaneSegments:
    """The segments at the open planes of a node, one row each."""

    key: np.ndarray  # uint64, (R,), ascending: a segment, in this node or beyond a low plane
    name: np.ndarray  # uint64, the component of this node that it belongs to
    faces: np.ndarray  # uint8, the open planes that it touches (see `graph_tables`)

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> PlaneSegments:
        """The segments of a record made by `record`, which may have further columns."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})


class Joined(NamedTuple):
    """The result of a node: the old and new names of each child, and the rows passed up."""

    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    passed: PlaneSegments


def name_segments_beyond(
    graph: BlockGraph, axis: int, piece: np.ndarray, segment: np.ndarray
) -> BlockGraph:
    """The graph with segments instead of pieces in the pending contacts across a low face.

    Parameters
    ----------
    graph : BlockGraph
    axis : int
        Axis of the face.
    piece, segment : uint64, (P,)
        The pieces of the block beyond the face, and the segment of each.
    """
    at_face = (graph.pending_kind & AXIS) == axis
    order = np.argsort(piece)
    names = graph.pending_piece.copy()
    names[at_face] = Renaming(piece[order], segment[order, None])(names[at_face])
    return replace(graph, pending_piece=names)


def join_across_planes(graph: BlockGraph, threshold: float, *, whole: bool) -> Step:
    """Join the segments of a box with those beyond its low planes, once the box is complete.

    Two segments join if their contact on the plane scores at least `threshold` and is mutual: at
    least half of the affinity that either of them shares with the other's box. On a plane, many
    segments touch by a voxel or two, whose affinities mean little; joining across all such
    contacts merged most of a volume.

    Parameters
    ----------
    graph : BlockGraph
        Segments, with those beyond the low planes in `pending_piece`.
    threshold : float
        Mean affinity of the contact, 0 to 1.
    whole : bool
        Whether the graph covers a whole box. A part of a box passes up its segments at all faces:
        those at planes to be joined, those at other faces so that their names reach all voxels.
    """
    graph = graph.with_pieces(np.zeros(0, np.int64)).with_pooled_pending()
    if not whole:
        needed = graph.faces != 0
        needed[graph.pending_node] = True
        return Step(graph.id, graph.with_nodes(needed))
    edges = _pending_edges(graph)
    joins = graph.with_pending(_mutual(graph, edges) & (edges.score >= threshold))
    offered = graph.faces & HIGH_FACES
    high = offered != 0
    key = np.concatenate([joins.pending_piece, graph.id[high]])
    name = np.concatenate([graph.id[joins.pending_node], graph.id[high]])
    low = np.uint8(1) << (2 * (joins.pending_kind & AXIS))
    renaming, passed = _unite(key, name, np.concatenate([low, offered[high]]))
    return Step(renaming(graph.id), passed)


def plane_segments(record: dict[str, np.ndarray], threshold: float) -> PlaneSegments:
    """The segments of a child's record; a part of a box that stays incomplete decides alone.

    Such parts occur only in a trial, which computes a few blocks without their neighbours.
    """
    if "key" in record:
        return PlaneSegments.from_record(record)
    alone = join_across_planes(BlockGraph.from_record(record), threshold, whole=True)
    return PlaneSegments.from_record(alone.passed.record())


def join_nodes(children: Sequence[tuple[PlaneSegments, Box]], box: Box) -> Joined:
    """Join the segments of the parts of a box across the planes between them.

    Parameters
    ----------
    children : pairs of PlaneSegments and Box
        Disjoint boxes that make up `box`.
    box : Box
    """
    key = np.concatenate([part.key for part, _ in children])
    name = np.concatenate([part.name for part, _ in children])
    faces = [part.faces & np.uint8(shared_faces(inner, box)) for part, inner in children]
    renaming, passed = _unite(key, name, np.concatenate(faces))
    before = tuple(np.unique(part.name) for part, _ in children)
    return Joined(before, tuple(renaming(names) for names in before), passed)


def _unite(key: np.ndarray, name: np.ndarray, faces: np.ndarray) -> tuple[Renaming, PlaneSegments]:
    """Unite rows with the same key: the new name of each name, and the rows with open faces."""
    order = np.argsort(key, kind="stable")
    key, name, faces = key[order], name[order], faces[order]
    names, at = np.unique(name, return_inverse=True)
    repeated = np.nonzero(key[1:] == key[:-1])[0] + 1
    renaming = Renaming(
        names, names[components(len(names), at[repeated - 1], at[repeated])][:, None]
    )
    first = np.delete(np.arange(len(key)), repeated)
    if len(first):
        faces = np.bitwise_or.reduceat(faces, first)
    first, faces = first[faces != 0], faces[faces != 0]
    return renaming, PlaneSegments(key[first], renaming(name[first]), faces)


def _pending_edges(graph: BlockGraph) -> EdgeTable:
    """The pending contacts as edges to the segments beyond, numbered separately from the nodes."""
    beyond = np.unique(graph.pending_piece, return_inverse=True)[1]
    return EdgeTable(graph.pending_node, beyond, graph.pending_sum, graph.pending_contact)


def _mutual(graph: BlockGraph, edges: EdgeTable) -> np.ndarray:
    """Whether each pending contact has half or more of what either side shares with the other box.

    There is one box beyond a plane. A node shares with it all its contacts across that plane; a
    segment beyond shares all its contacts with this box.
    """
    plane = 3 * edges.a.astype(np.int64) + (graph.pending_kind & AXIS)
    most = np.maximum(
        sum_groups(plane, 3 * len(graph.id), edges.affinity_sum)[plane],
        sum_groups(edges.b, len(edges.b), edges.affinity_sum)[edges.b],
    )
    mutual: np.ndarray = 2 * edges.affinity_sum >= most
    return mutual
