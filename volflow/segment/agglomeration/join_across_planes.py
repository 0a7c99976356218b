"""What boxes of a horizon tell one another of the segments at their planes.

A box knows all contacts across its low planes, so it decides alone which segments join there. From
then on only these rows count, one for each segment at an open plane:

          box A                |                box B
    key a, name a: a is at a   |  key a, name b: a is beyond a low plane,
    high plane, called a here  |  and is joined to what is called b here

Rows of one key are one component. A row is needed as long as the plane that it speaks of is open,
so a node passes up what lies at its surface and nothing of what is inside, however often the
segments of a component touch one another there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.segment.agglomeration.contacts import EdgeTable
from volflow.segment.agglomeration.graph_tables import (
    AXIS,
    HIGH_FACES,
    BlockGraph,
    Renaming,
    shared_faces,
)
from volflow.segment.agglomeration.rounds import Step
from volflow.segment.pair_table import sum_groups
from volflow.segment.union_find import components


@dataclass(frozen=True)
class Seams:
    """The segments that matter beyond the planes of a node, each of them once."""

    key: np.ndarray  # uint64, (R,), ascending: a segment, here or beyond a low plane
    name: np.ndarray  # uint64, the component of this node that it belongs to
    faces: np.ndarray  # uint8, the planes across which others may speak of it (see `tables`)

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> Seams:
        """The seams of a record made by `record`, which may hold other columns too."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})


class Joined(NamedTuple):
    """A node above: what names of each child have become, and what others must be told."""

    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    passed: Seams


def name_beyond(graph: BlockGraph, axis: int, piece: np.ndarray, segment: np.ndarray) -> BlockGraph:
    """The graph whose pending contacts across a low face name segments instead of pieces.

    Parameters
    ----------
    graph : BlockGraph
    axis : int
        Of the face.
    piece, segment : uint64, (P,)
        The pieces of the block beyond the face, and the segment of each.
    """
    there = (graph.pending_kind & AXIS) == axis
    order = np.argsort(piece)
    names = graph.pending_piece.copy()
    names[there] = Renaming(piece[order], segment[order, None])(names[there])
    return replace(graph, pending_piece=names)


def join_across_planes(graph: BlockGraph, threshold: float, *, whole: bool) -> Step:
    """Join the segments of a box with those beyond its low planes, once it is whole.

    They join where their contact on the plane scores at least `threshold` and is mutual: at least
    half of all that either of them shares with the other's box. On a plane many segments meet by a
    voxel or two, whose affinities say little; joining across all of them merged most of a volume.

    Parameters
    ----------
    graph : BlockGraph
        Segments, with those beyond the low planes in `pending_piece`.
    threshold : float
    whole : bool
        Whether the graph is that of a whole box. A part of one passes up its segments at any face:
        at a plane to be joined, at others because voxels elsewhere have to learn their names.
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
    renaming, passed = _united(key, name, np.concatenate([low, offered[high]]))
    return Step(renaming(graph.id), passed)


def seams_of(record: dict[str, np.ndarray], threshold: float) -> Seams:
    """The seams of a child's record; a part of a box that will never be whole decides alone.

    Only a trial has such a part: a few blocks without those around them.
    """
    if "key" in record:
        return Seams.from_record(record)
    alone = join_across_planes(BlockGraph.from_record(record), threshold, whole=True)
    return Seams.from_record(alone.passed.record())


def sew_nodes(children: Sequence[tuple[Seams, Box]], box: Box) -> Joined:
    """Join what the parts of a box have told of their planes.

    Parameters
    ----------
    children : pairs of Seams and Box
        Disjoint boxes that make up `box`.
    box : Box
    """
    key = np.concatenate([part.key for part, _ in children])
    name = np.concatenate([part.name for part, _ in children])
    faces = [part.faces & np.uint8(shared_faces(inner, box)) for part, inner in children]
    renaming, passed = _united(key, name, np.concatenate(faces))
    before = tuple(np.unique(part.name) for part, _ in children)
    return Joined(before, tuple(renaming(names) for names in before), passed)


def _united(key: np.ndarray, name: np.ndarray, faces: np.ndarray) -> tuple[Renaming, Seams]:
    """Rows of one key made one: what each name has become, and the rows with open faces."""
    order = np.argsort(key, kind="stable")
    key, name, faces = key[order], name[order], faces[order]
    names, at = np.unique(name, return_inverse=True)
    again = np.nonzero(key[1:] == key[:-1])[0] + 1
    renaming = Renaming(names, names[components(len(names), at[again - 1], at[again])][:, None])
    first = np.delete(np.arange(len(key)), again)
    if len(first):
        faces = np.bitwise_or.reduceat(faces, first)
    first, faces = first[faces != 0], faces[faces != 0]
    return renaming, Seams(key[first], renaming(name[first]), faces)


def _pending_edges(graph: BlockGraph) -> EdgeTable:
    """The pending contacts as edges to the segments beyond, which are numbered apart."""
    beyond = np.unique(graph.pending_piece, return_inverse=True)[1]
    return EdgeTable(graph.pending_node, beyond, graph.pending_sum, graph.pending_contact)


def _mutual(graph: BlockGraph, edges: EdgeTable) -> np.ndarray:
    """Which pending contacts are at least half of what either segment shares with the other's box.

    Beyond a plane lies one box, so of a node it is all its contacts across that plane, and of a
    segment beyond all its contacts.
    """
    plane = 3 * edges.a.astype(np.int64) + (graph.pending_kind & AXIS)
    most = np.maximum(
        sum_groups(plane, 3 * len(graph.id), edges.affinity_sum)[plane],
        sum_groups(edges.b, len(edges.b), edges.affinity_sum)[edges.b],
    )
    mutual: np.ndarray = 2 * edges.affinity_sum >= most
    return mutual
