"""The stage that makes objects of fragments around cores, the same whatever the blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, NodeOutput, Phase, PreviousRound, Record, Reduction
from volflow.segment.agglomeration.block_graph import block_graph, unpack_links
from volflow.segment.agglomeration.graph_tables import (
    BlockGraph,
    Renaming,
    box_of,
    gather,
    with_box,
)
from volflow.segment.agglomeration.horizon import inner_faces
from volflow.segment.agglomeration.rounds import Step, facing, link_pieces, links_only, merge_down
from volflow.segment.objects import Census, core_pairs, pooled_census
from volflow.segment.pair_table import sum_groups

BYTES_PER_VOXEL = 64  # as agglomerate; measured where objects fill 4 % of the voxels: 23
NODE_FACTOR, NODE_EXPONENT = 640, 0.82  # of agglomerate: a bound, objects leave much less


class Objects(Reduction):
    """Objects: `fragments`, each with a core or joined to one that has.

    Rounds: `link` puts pieces that blocks cut apart together; `grow` lets what has no core join
    its best neighbour, best first, so that no two cores ever join; `drop` takes away what has
    no core in the end, and objects that are too small. `affinity` is that of `object_affinities`,
    `fragments` and `links` are made of it with `high: 255`. `relabel` paints the objects.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
    }

    min_size: Annotated[int, Field(ge=1)] = 128
    """Voxels; objects of fewer are dropped."""
    min_core: Annotated[int, Field(ge=1)] = 1
    """Pairs of touching voxels that a core has at the least (a thick one has almost three to a
    voxel); what has fewer is no core, and joins one or is dropped."""
    grow: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Mean affinity of a contact below which nothing grows across it."""

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
    ) -> NodeOutput:
        near, _ = inner_faces(block.write, block.bounds)
        if previous is None:
            assert fragments is not None
            assert affinity is not None
            assert links is not None
            cut = unpack_links(links["bits"], block.write.shape)
            graph = block_graph(fragments, affinity, cut, near)
            voxels, graph = graph.size, _sized_by_cores(graph, fragments, affinity)
        else:
            voxels, graph = previous.retained["voxels"], _settled(previous).contracted()
        if round_name == "drop":
            size = sum_groups(graph.piece_node, len(graph.id), voxels)
            up = self._dropped(Census(graph.id, size, graph.size, graph.faces & np.uint8(near)), ())
            component, passed = up.retained["names"], up.passed
        else:
            seen = facing(graph, near, near, with_edges=round_name != "link")
            step = self._step(round_name, links_only(seen) if round_name == "link" else seen)
            component, passed = step.component, step.passed.record()
        kept = replace(graph, component=component).record()
        return NodeOutput(with_box(passed, block.write), {**kept, "voxels": voxels})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        if round_name == "drop":
            parts = [(Census.from_record(child), box_of(child)) for child in children]
            census = pooled_census(parts, block.write)
            up = self._dropped(census, children)
            ids = [part.id for part, _ in parts]
            after = [up.retained["names"][np.searchsorted(census.id, own)] for own in ids]
            return NodeOutput(with_box(up.passed, block.write), _handed_down(ids, after))
        graphs = [(BlockGraph.from_record(child), box_of(child)) for child in children]
        gathered = gather(graphs, block.write, block.bounds)
        step = self._step(round_name, gathered.graph)
        after = [step.component[nodes] for nodes in gathered.stands]
        kept = _handed_down(gathered.passed, after)
        return NodeOutput(with_box(step.passed.record(), block.write), kept)

    def split(
        self, block: Block, round_name: str, kept: Record, received: Record | None
    ) -> Sequence[Record]:
        after = Renaming.from_record(received)(kept["after"].reshape(-1, 1))
        ends = np.cumsum(kept["counts"])[:-1]
        parts = zip(np.split(kept["before"], ends), np.split(after, ends), strict=True)
        return [Renaming.between(old, new).record() for old, new in parts]

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        graph = _settled(previous)
        return {"table": {"piece": graph.piece, "segment": graph.component[graph.piece_node]}}

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        objects, dropped = (int(number) for number in roots[0]["counted"])
        return {"objects": objects, "dropped": dropped}

    def _step(self, round_name: str, graph: BlockGraph) -> Step:
        if round_name == "link":
            return link_pieces(graph)
        return merge_down(graph, self.grow, self.min_core)

    def _dropped(self, census: Census, children: Sequence[Record]) -> NodeOutput:
        """What is passed up of a census, and what each of its objects is called from now on."""
        names = census.names(self.min_size, self.min_core)
        whole = census.faces == 0
        counted = np.array([(whole & (names > 0)).sum(), (whole & (names == 0)).sum()], np.int64)
        counted += sum((child["counted"] for child in children), np.zeros(2, np.int64))
        return NodeOutput({**census.waiting().record(), "counted": counted}, {"names": names})


def _sized_by_cores(graph: BlockGraph, fragments: np.ndarray, affinity: np.ndarray) -> BlockGraph:
    """The graph of pieces whose sizes are their pairs within cores."""
    label, count = core_pairs(fragments, affinity)
    size = np.zeros(len(graph.id), np.int64)
    size[np.searchsorted(graph.id, label)] = count
    return replace(graph, size=size)


def _settled(previous: PreviousRound) -> BlockGraph:
    """The block's graph of the round before with what came of its nodes in the end."""
    graph = BlockGraph.from_record(previous.retained)
    return replace(graph, component=Renaming.from_record(previous.received)(graph.component))


def _handed_down(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Record:
    """What a node keeps: the names that each child passed up, and what they became."""
    return {
        "before": np.concatenate(before),
        "after": np.concatenate(after),
        "counts": np.array([len(names) for names in before], np.int64),
    }
