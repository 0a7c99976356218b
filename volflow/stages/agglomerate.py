"""The stage that merges fragments to segments, the same whatever the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from volflow.core.geometry import Block, BlockGrid, Triple, zyx
from volflow.core.stage import (
    Columns,
    Layer,
    NodeOutput,
    Phase,
    PreviousRound,
    Record,
    Reduction,
    pyramid,
)
from volflow.segment.agglomeration.block_graph import block_graph, unpack_links
from volflow.segment.agglomeration.costs import block_bytes, node_bytes, node_effort, plane_bytes
from volflow.segment.agglomeration.graph_tables import (
    BlockGraph,
    Renaming,
    box_of,
    gather,
    with_box,
)
from volflow.segment.agglomeration.horizon import inner_faces, most_open, steps_to_horizon
from volflow.segment.agglomeration.join_across_planes import (
    join_across_planes,
    name_beyond,
    seams_of,
    sew_nodes,
)
from volflow.segment.agglomeration.rounds import (
    Step,
    facing,
    join_best,
    link_pieces,
    links_only,
    merge_down,
    merge_down_once,
)
from volflow.segment.agglomeration.thresholds import ThresholdLabels, segment_column

Score = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]

SEAMS = "seams"  # not "stitch": records of that name, of runs begun before, mean something else
AT_EACH = ("small", SEAMS)  # rounds at one threshold
BEFORE: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))  # the block behind a low face


class Agglomerate(Reduction):
    """Segments: `fragments` merged by the mean affinity of their contacts.

    Rounds, each on the contacts of the clusters of the one before: `link` puts pieces that
    blocks cut apart together; `join` lets every cluster join across its best edge, all at once;
    `merge` is the greedy run; `small` the greedy run for small segments; `seams`, with a
    `horizon`, joins segments across its planes. Only the first round reads voxels.

    Several thresholds share all rounds up to `merge`, which runs to the lowest and tells the
    segments at each; then there is a `small` and a `seams` for each of them. `table` has a column
    of segments for each, and `relabel` paints the one that it is asked for.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
    }

    threshold: Score | tuple[Score, ...]
    """Mean affinity, 0 to 1, below which nothing merges; or several, all from one run."""
    join_rounds: Annotated[int, Field(ge=0, le=8)] = 1
    """How often every cluster first joins across its best edge."""
    join_score: Score = 0.5
    """What that edge must score."""
    min_size: Annotated[int, Field(ge=0)] = 0
    """Segments of fewer voxels merge on, down to `min_size_score`; 0: they do not."""
    min_size_score: Score = 0.02
    horizon: tuple[Side, Side, Side] | Side | None = None
    """Side, in voxels, of boxes that are agglomerated each for itself, then joined across their
    planes; the result is another one than the exact one. It bounds the memory of all rounds but
    the last, whose nodes hold a row for each segment at their surface. Blocks must divide it."""

    @field_validator("threshold")
    @classmethod
    def _ascending(cls, given: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if not isinstance(given, tuple):
            return given
        if not given:
            raise ValueError("expected a threshold, or several")
        if len(set(given)) < len(given):
            raise ValueError(f"a threshold comes twice among {', '.join(map(str, given))}")
        return tuple(sorted(given))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All thresholds, ascending."""
        return self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)

    @property
    def halo(self) -> Triple:
        return (1, 1, 1)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        segments = [(name, "uint64") for name in self._segments]
        return {"table": Columns((("piece", "uint64"), *segments))}

    @property
    def descends(self) -> bool:
        return True

    @property
    def rounds(self) -> tuple[str, ...]:
        joins = tuple(f"join{number}" for number in range(1, self.join_rounds + 1))
        small = self._one_each("small") if self.min_size else ()
        seams = self._one_each(SEAMS) if self.horizon else ()
        return ("link", *joins, "merge", *small, *seams)

    def reads(self, phase: Phase) -> frozenset[str]:
        first = phase.kind == "leaf" and not phase.previous
        return frozenset(self.inputs()) if first else frozenset()

    def memory(self, shape: Triple) -> int:
        return block_bytes(shape)

    def node_memory(self, shape: Triple) -> int:
        return node_bytes(shape, len(self.thresholds), self.join_rounds > 0)

    def phase_memory(self, phase: Phase, shape: Triple) -> int:
        if self.horizon is None:
            return self.node_memory(shape)
        inside = [min(side, far) for side, far in zip(shape, zyx(self.horizon), strict=True)]
        if phase.below is None or list(shape) == inside:
            return self.node_memory(shape)
        return plane_bytes(most_open(phase.below, shape), self.min_size > 0)

    def node_effort(self, phase: Phase, shape: Triple, open_share: float) -> float:
        return node_effort(
            "split" if phase.kind == "split" else _kind(phase.round_name), shape, open_share
        )

    def check(self, grid: BlockGrid) -> list[str]:
        if self.horizon is None:
            return []
        sides = zip("zyx", zyx(self.horizon), grid.shape, grid.bounds.shape, strict=True)
        return [
            f"horizon {far} along {axis} is not a multiple of the block's {side}"
            for axis, far, side, length in sides
            if far < length and far % side
        ]

    def tree(self, round_name: str, grid: BlockGrid) -> tuple[BlockGrid, ...]:
        if self.horizon is None:
            return pyramid(grid)
        grids = [BlockGrid(grid.bounds, grid.shape)]
        for factor in steps_to_horizon(grid, zyx(self.horizon)):
            grids.append(grids[-1].parent_grid(factor))
        above = _kind(round_name) == SEAMS
        return tuple(grids[:-1]) + pyramid(grids[-1]) if above else tuple(grids)

    def neighbour_records(self, block: Block, round_name: str) -> Sequence[Triple]:
        if _kind(round_name) != SEAMS:
            return ()
        _, far = inner_faces(block.write, block.bounds, self._horizon)
        return [before for axis, before in enumerate(BEFORE) if far >> (2 * axis) & 1]

    def base_round(self, round_name: str) -> str:
        """Most of the graph is in the first record: `link` joins few, nor do later thresholds."""
        at_each = [name for name in self.rounds if _kind(name) in AT_EACH]
        if round_name in at_each[1:]:
            return at_each[0]
        return "link" if round_name == "join1" else ""

    def leaf(  # type: ignore[override]
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        fragments: np.ndarray | None,
        affinity: np.ndarray | None,
        links: Record | None,
    ) -> NodeOutput:
        near, far = inner_faces(block.write, block.bounds, self._horizon)
        kind, cuts, before = _kind(round_name), None, None
        if previous is None:
            assert fragments is not None
            assert affinity is not None
            assert links is not None
            cut = unpack_links(links["bits"], block.write.shape)
            graph = block_graph(fragments, affinity, cut, near | far)
        elif kind in AT_EACH:
            cuts = self._cuts(previous)
            graph = cuts.at(self._column(round_name))
        else:
            before = _settled(previous)
            graph = before.contracted()
        if kind == SEAMS:
            assert previous is not None
            graph = self._named_beyond(graph, previous, self._column(round_name))
            seen = facing(graph, near | far, far, with_edges=False)
        else:
            seen = facing(graph, near, near, with_edges=kind != "link")
        step = self._step(round_name, links_only(seen) if kind == "link" else seen, block)
        passed = with_box(step.passed.record(), block.write)
        if cuts is not None:
            kept = cuts.joined(self._column(round_name), step.component)
            return NodeOutput(
                passed, kept.names() if self.base_round(round_name) else kept.record()
            )
        if step.cuts is not None:
            return NodeOutput(passed, ThresholdLabels(graph, step.cuts).contracted().record())
        if self.base_round(round_name):
            assert before is not None
            node = np.searchsorted(graph.id, before.component)
            return NodeOutput(passed, {"component": step.component[node]})
        return NodeOutput(passed, replace(graph, component=step.component).record())

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        if any("key" in child for child in children):
            return self._sewn(block, round_name, children)
        parts = [(BlockGraph.from_record(child), box_of(child)) for child in children]
        gathered = gather(parts, block.write, block.bounds)
        step = self._step(round_name, gathered.graph, block)
        names = step.component if step.cuts is None else step.cuts
        after = [names[nodes].ravel() for nodes in gathered.stands]
        passed = with_box(step.passed.record(), block.write)
        return NodeOutput(passed, _handed_down(gathered.passed, after))

    def split(
        self, block: Block, round_name: str, kept: Record, received: Record | None
    ) -> Sequence[Record]:
        count = len(self.thresholds) if round_name == "merge" else 1
        before, names = kept["before"], kept["after"].reshape(-1, count)
        after = Renaming.from_record(received, count)(names)
        ends = np.cumsum(kept["counts"])[:-1]
        parts = zip(np.split(before, ends), np.split(after, ends), strict=True)
        return [Renaming.between(old, new).record() for old, new in parts]

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        cuts = ThresholdLabels.settled(previous.retained, previous.received, len(self.thresholds))
        segments = cuts.labels[cuts.graph.piece_node].T
        columns = zip(self._segments, segments, strict=True)
        return {"table": {"piece": cuts.graph.piece, **dict(columns)}}

    @property
    def _segments(self) -> tuple[str, ...]:
        """The columns of segments."""
        if not isinstance(self.threshold, tuple):
            return ("segment",)
        return tuple(segment_column(threshold) for threshold in self.threshold)

    def _one_each(self, round_name: str) -> tuple[str, ...]:
        """The rounds of a kind, one for each threshold."""
        if not isinstance(self.threshold, tuple):
            return (round_name,)
        return tuple(f"{round_name}{number}" for number in range(1, len(self.threshold) + 1))

    @property
    def _horizon(self) -> Triple | None:
        return None if self.horizon is None else zyx(self.horizon)

    def _column(self, round_name: str) -> int:
        """Which of the thresholds a round is for."""
        number = round_name.removeprefix(_kind(round_name))
        return int(number) - 1 if number else 0

    def _cuts(self, previous: PreviousRound) -> ThresholdLabels:
        """The segments of a block at each threshold, on the graph of those at the highest."""
        cuts = ThresholdLabels.settled(previous.retained, previous.received, len(self.thresholds))
        return cuts.contracted() if cuts.column < 0 else cuts

    def _named_beyond(self, graph: BlockGraph, previous: PreviousRound, column: int) -> BlockGraph:
        """The graph with the segments, at a threshold, of the blocks behind its low planes."""
        for axis, before in enumerate(BEFORE):
            if before in previous.neighbour_records:
                other = previous.neighbour_records[before]
                cuts = ThresholdLabels.settled(other.retained, other.received, len(self.thresholds))
                at_plane = (cuts.graph.piece_faces >> (2 * axis + 1)) & 1 == 1
                segment = cuts.labels[cuts.graph.piece_node[at_plane], column]
                graph = name_beyond(graph, axis, cuts.graph.piece[at_plane], segment)
        return graph

    def _sewn(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        """A node that is made of whole boxes."""
        threshold = self.thresholds[self._column(round_name)]
        parts = [(seams_of(child, threshold), box_of(child)) for child in children]
        joined = sew_nodes(parts, block.write)
        passed = with_box(joined.passed.record(), block.write)
        return NodeOutput(passed, _handed_down(joined.before, joined.after))

    def _step(self, round_name: str, graph: BlockGraph, block: Block) -> Step:
        kind = _kind(round_name)
        if kind == "link":
            return link_pieces(graph)
        if kind == "merge":
            return merge_down_once(graph, self.thresholds)
        if kind == "small":
            return merge_down(graph, self.min_size_score, self.min_size)
        if kind == SEAMS:
            near, _ = inner_faces(block.write, block.bounds, self._horizon)
            return join_across_planes(
                graph, self.thresholds[self._column(round_name)], whole=near == 0
            )
        return join_best(graph, self.join_score)


def _kind(round_name: str) -> str:
    """The name of a round without its number."""
    return round_name.rstrip("0123456789")


def _handed_down(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Record:
    """What a node keeps for the way down: the names of each child, and those that they get."""
    return {
        "before": np.concatenate(before),
        "after": np.concatenate(after),
        "counts": np.array([len(names) for names in before], np.int64),
    }


def _settled(previous: PreviousRound) -> BlockGraph:
    """The block's graph of the round before with what came of its nodes in the end."""
    graph = BlockGraph.from_record(previous.retained)
    renaming = Renaming.from_record(previous.received)
    return replace(graph, component=renaming(graph.component))
