"""The `objects` stage: instances from fragments around cores, independently of the blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import SIZE, Columns, Layer, Phase, PreviousRound, Record, Reduction, Up
from volflow.segment.agglomeration.block_graph import block_graph, unpack_links
from volflow.segment.agglomeration.graph_tables import BlockGraph, box_of, gather, with_box
from volflow.segment.agglomeration.horizon import inner_faces
from volflow.segment.agglomeration.renaming import names_record, split_names
from volflow.segment.agglomeration.rounds import (
    Step,
    link_pieces,
    links_only,
    merge_down,
    round_graph,
)
from volflow.segment.objects import ObjectTable, core_pairs, merged_objects
from volflow.segment.pair_table import sum_groups

BYTES_PER_VOXEL = 64  # as for agglomerate; measured with objects in 4 % of the voxels: 23
NODE_FACTOR, NODE_EXPONENT = 640, 0.82  # as for agglomerate: a generous upper bound


class Objects(Reduction):
    """Objects from `fragments`: each grows from one core; two cores never join.

    The result is the same for any block shape. Rounds:

        link     pieces of fragments that were cut by block faces are put back together
        grow     fragments without a core join their best neighbour, best mean affinity first
        drop     fragments without a core, and objects that are too small, become background

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces of fragments, from the stage `fragments` with `high: 255` on the same blocks.
    affinity : uint8, (3, Z, Y, X)
        From the stage `object_affinities`.
    links : table
        The links between pieces across block faces, from the stage `fragments`.

    Outputs
    -------
    table : table
        `piece` and its object, `segment` (0: background); the stage `relabel` turns it into a
        segmentation. The result has the numbers of objects kept and dropped.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
    }

    min_size: Annotated[int, Field(ge=1), SIZE] = 128
    """Size in voxels, at least 1, or in units; smaller objects become background."""
    min_core: Annotated[int, Field(ge=1)] = 1
    """Size of a core in pairs of touching voxels, at least 1 (a thick core has almost three pairs
    per voxel); fragments with fewer have no core: they join one or become background."""
    grow: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Mean affinity of a contact, 0 to 1, below which fragments do not join across it."""

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"table": Columns((("piece", "uint64"), ("segment", "uint64")))}

    @property
    def descends(self) -> bool:
        return True

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("link", "grow", "drop")

    def reads(self, phase: Phase) -> frozenset[str]:
        first = phase.kind == "leaf" and not phase.previous
        return frozenset(self.inputs()) if first else frozenset()

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return int(NODE_FACTOR * math.prod(float(side) for side in shape) ** NODE_EXPONENT)

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        fragments: np.ndarray | None,
        affinity: np.ndarray | None,
        links: Record | None,
    ) -> Up:
        near, _ = inner_faces(block.write, block.bounds)
        if previous is None:
            assert fragments is not None
            assert affinity is not None
            assert links is not None
            faces = unpack_links(links["bits"], block.write.shape)
            graph = block_graph(fragments, affinity, faces, near)
            voxels, graph = graph.size, _sized_by_cores(graph, fragments, affinity)
        else:
            voxels = previous.retained["voxels"]
            graph = BlockGraph.settled(previous.retained, previous.received).contracted()
        if round_name == "drop":
            size = sum_groups(graph.piece_node, len(graph.id), voxels)
            objects = ObjectTable(graph.id, size, graph.size, graph.faces & np.uint8(near))
            component, passed = self._drop(objects, ())
        else:
            part = round_graph(graph, near, near, with_edges=round_name != "link")
            step = self._step(round_name, links_only(part) if round_name == "link" else part)
            component, passed = step.component, step.passed.record()
        columns = replace(graph, component=component).record()
        return Up(with_box(passed, block.write), {**columns, "voxels": voxels})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        if round_name == "drop":
            parts = [(ObjectTable.from_record(child), box_of(child)) for child in children]
            objects = merged_objects(parts, block.write)
            names, passed = self._drop(objects, children)
            ids = [part.id for part, _ in parts]
            after = [names[np.searchsorted(objects.id, own)] for own in ids]
            return Up(with_box(passed, block.write), names_record(ids, after))
        graphs = [(BlockGraph.from_record(child), box_of(child)) for child in children]
        gathered = gather(graphs, block.write, block.bounds)
        step = self._step(round_name, gathered.graph)
        after = [step.component[nodes] for nodes in gathered.members]
        passed = with_box(step.passed.record(), block.write)
        return Up(passed, names_record(gathered.passed, after))

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        return split_names(retained, received)

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        graph = BlockGraph.settled(previous.retained, previous.received)
        return {"table": {"piece": graph.piece, "segment": graph.component[graph.piece_node]}}

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        objects, dropped = (int(number) for number in roots[0]["counted"])
        return {"objects": objects, "dropped": dropped}

    def _step(self, round_name: str, graph: BlockGraph) -> Step:
        if round_name == "link":
            return link_pieces(graph)
        return merge_down(graph, self.grow, self.min_core)

    def _drop(self, objects: ObjectTable, children: Sequence[Record]) -> tuple[np.ndarray, Record]:
        """The new id of each object (0: dropped), and the record passed up."""
        names = objects.names(self.min_size, self.min_core)
        whole = objects.faces == 0
        counted = np.array([(whole & (names > 0)).sum(), (whole & (names == 0)).sum()], np.int64)
        counted += sum((child["counted"] for child in children), np.zeros(2, np.int64))
        return names, {**objects.unfinished().record(), "counted": counted}


def _sized_by_cores(graph: BlockGraph, fragments: np.ndarray, affinity: np.ndarray) -> BlockGraph:
    """The graph with each piece's number of pairs within cores as its size."""
    label, count = core_pairs(fragments, affinity)
    size = np.zeros(len(graph.id), np.int64)
    size[np.searchsorted(graph.id, label)] = count
    return replace(graph, size=size)
