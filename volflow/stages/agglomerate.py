"""The `agglomerate` stage: fragments merged into segments, independently of the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from volflow.core.geometry import Block, BlockGrid, Triple, zyx
from volflow.core.stage import (
    SIDES,
    SIZE,
    Columns,
    Layer,
    Phase,
    PreviousRound,
    Record,
    Reduction,
    Up,
    pyramid,
)
from volflow.segment.agglomeration.block_graph import block_graph, unpack_links
from volflow.segment.agglomeration.costs import block_bytes, node_bytes, node_effort, plane_bytes
from volflow.segment.agglomeration.graph_tables import BlockGraph, box_of, gather, with_box
from volflow.segment.agglomeration.horizon import inner_faces, max_open_voxels, steps_to_horizon
from volflow.segment.agglomeration.join_across_planes import (
    join_across_planes,
    join_nodes,
    name_segments_beyond,
    plane_segments,
)
from volflow.segment.agglomeration.renaming import names_record, split_names
from volflow.segment.agglomeration.rounds import (
    Step,
    join_best,
    link_pieces,
    links_only,
    merge_down,
    merge_down_once,
    round_graph,
)
from volflow.segment.agglomeration.thresholds import ThresholdLabels, segment_column

Score = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]

PLANES = "seams"  # stored name of the round that joins across planes; "stitch" was another one
AT_ONE_THRESHOLD = ("small", PLANES)  # rounds that are repeated for each threshold
BEFORE: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))  # the block beyond a low face


class Agglomerate(Reduction):
    """Segments from `fragments`, merged by the mean affinity of their contacts.

    The result is that of greedy agglomeration of the whole volume, for any block shape. Rounds,
    each on the contacts between the clusters of the round before:

        link     pieces of fragments that were cut by block faces are put back together
        join     every cluster joins across its best edge, all simultaneously (`join_rounds` times)
        merge    greedy agglomeration, best mean affinity first
        small    greedy agglomeration of small segments (if `min_size` is given)
        seams    segments join across the planes of the `horizon` (if it is given)

    Only the first round reads voxels. With several thresholds, all rounds up to `merge` are shared:
    it runs to the lowest threshold and records the segments at each. `small` and `seams` are then
    repeated for each threshold.

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces of fragments, from the stage `fragments` on the same blocks.
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    links : table
        The links between pieces across block faces, from the stage `fragments`.

    Outputs
    -------
    table : table
        `piece` and its `segment`, or a column `segment_T` for each threshold T of several; the
        stage `relabel` turns it into a segmentation.

    References
    ----------
    Lu, Zlateski, Seung, Large-scale image segmentation based on distributed clustering algorithms,
    arXiv:2106.10795, for merging block by block; see `segment/agglomeration/greedy.py`.
    """

    anchored: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True, halo_region="faces"),
        "affinity": Layer("uint8", 3, "affinity", halo_region="nothing"),
    }

    threshold: Score | tuple[Score, ...]
    """Mean affinity of a contact, 0 to 1, below which segments do not merge; or a list of several,
    all computed in one run."""
    join_rounds: Annotated[int, Field(ge=0, le=8)] = 1
    """Number of rounds, 0 to 8, in which every cluster joins across its best edge, before the
    greedy agglomeration. With one or more, the memory of the following rounds is about a third."""
    join_score: Score = 0.5
    """Smallest mean affinity, 0 to 1, of a best edge across which clusters join in these rounds."""
    min_size: Annotated[int, Field(ge=0), SIZE] = 0
    """Size in voxels, or in units; smaller segments merge further, down to `min_size_score`. 0:
    off."""
    min_size_score: Score = 0.02
    """Mean affinity of a contact, 0 to 1, below which small segments do not merge either."""
    horizon: Annotated[tuple[Side, Side, Side] | Side | None, SIDES] = None
    """Side in voxels or in units, or sides z y x, of boxes that are agglomerated independently and
    then joined across their planes; None: the exact result. A horizon bounds the memory of all
    rounds except the last, which needs a row for each segment at the surface of a node. The result
    differs from the exact one. Must be a multiple of the block's shape."""

    @field_validator("threshold")
    @classmethod
    def _ascending(cls, given: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if not isinstance(given, tuple):
            return given
        if not given:
            raise ValueError("expected at least one threshold; got an empty list")
        if len(set(given)) < len(given):
            raise ValueError(f"expected distinct thresholds; got {', '.join(map(str, given))}")
        return tuple(sorted(given))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All thresholds in ascending order."""
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
        small = self._for_each_threshold("small") if self.min_size else ()
        seams = self._for_each_threshold(PLANES) if self.horizon else ()
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
        if phase.below is None or zyx(shape).minimum(zyx(self.horizon)) == tuple(shape):
            return self.node_memory(shape)
        return plane_bytes(max_open_voxels(phase.below, shape), self.min_size > 0)

    def node_effort(self, phase: Phase, shape: Triple, open_share: float) -> float:
        return node_effort(
            "split" if phase.kind == "split" else _kind(phase.round_name), shape, open_share
        )

    def check(self, grid: BlockGrid) -> list[str]:
        if self.horizon is None:
            return []
        sides = zip("zyx", zyx(self.horizon), grid.shape, grid.bounds.shape, strict=True)
        return [
            f"horizon: expected a multiple of the block's {side} voxels along {axis}; got {far}"
            for axis, far, side, length in sides
            if far < length and far % side
        ]

    def tree(self, round_name: str, grid: BlockGrid) -> tuple[BlockGrid, ...]:
        if self.horizon is None:
            return pyramid(grid)
        grids = [BlockGrid(grid.bounds, grid.shape)]
        for factor in steps_to_horizon(grid, zyx(self.horizon)):
            grids.append(grids[-1].parent_grid(factor))
        across_planes = _kind(round_name) == PLANES
        return tuple(grids[:-1]) + pyramid(grids[-1]) if across_planes else tuple(grids)

    def neighbour_records(self, block: Block, round_name: str) -> Sequence[Triple]:
        if _kind(round_name) != PLANES:
            return ()
        _, far = inner_faces(block.write, block.bounds, self._horizon)
        return [offset for axis, offset in enumerate(BEFORE) if far >> (2 * axis) & 1]

    def base_round(self, round_name: str) -> str:
        """Most of the graph is in the first record: `link` and later thresholds change little."""
        at_one = [name for name in self.rounds if _kind(name) in AT_ONE_THRESHOLD]
        if round_name in at_one[1:]:
            return at_one[0]
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
    ) -> Up:
        near, far = inner_faces(block.write, block.bounds, self._horizon)
        kind, labels, before = _kind(round_name), None, None
        if previous is None:
            assert fragments is not None
            assert affinity is not None
            assert links is not None
            faces = unpack_links(links["bits"], block.write.shape)
            graph = block_graph(fragments, affinity, faces, near | far)
        elif kind in AT_ONE_THRESHOLD:
            labels = self._labels(previous)
            graph = labels.at(self._column(round_name))
        else:
            before = BlockGraph.settled(previous.retained, previous.received)
            graph = before.contracted()
        if kind == PLANES:
            assert previous is not None
            graph = self._name_beyond(graph, previous, self._column(round_name))
            part = round_graph(graph, near | far, far, with_edges=False)
        else:
            part = round_graph(graph, near, near, with_edges=kind != "link")
        step = self._step(round_name, links_only(part) if kind == "link" else part, block)
        passed = with_box(step.passed.record(), block.write)
        if labels is not None:
            labels = labels.joined(self._column(round_name), step.component)
            return Up(passed, labels.names() if self.base_round(round_name) else labels.record())
        if step.by_threshold is not None:
            labels = ThresholdLabels(graph, step.by_threshold)
            return Up(passed, labels.contracted().record())
        if self.base_round(round_name):
            assert before is not None
            node = np.searchsorted(graph.id, before.component)
            return Up(passed, {"component": step.component[node]})
        return Up(passed, replace(graph, component=step.component).record())

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        if any("key" in child for child in children):
            return self._join_across_planes(block, round_name, children)
        parts = [(BlockGraph.from_record(child), box_of(child)) for child in children]
        gathered = gather(parts, block.write, block.bounds)
        step = self._step(round_name, gathered.graph, block)
        names = step.component if step.by_threshold is None else step.by_threshold
        after = [names[nodes].ravel() for nodes in gathered.members]
        passed = with_box(step.passed.record(), block.write)
        return Up(passed, names_record(gathered.passed, after))

    def split(
        self, block: Block, round_name: str, retained: Record, received: Record | None
    ) -> Sequence[Record]:
        return split_names(retained, received, len(self.thresholds) if round_name == "merge" else 1)

    def finish(self, block: Block, previous: PreviousRound) -> dict[str, np.ndarray | Record]:
        labels = ThresholdLabels.settled(previous.retained, previous.received, len(self.thresholds))
        segments = labels.labels[labels.graph.piece_node].T
        columns = zip(self._segments, segments, strict=True)
        return {"table": {"piece": labels.graph.piece, **dict(columns)}}

    @property
    def _segments(self) -> tuple[str, ...]:
        """The names of the columns of segments."""
        if not isinstance(self.threshold, tuple):
            return ("segment",)
        return tuple(segment_column(threshold) for threshold in self.threshold)

    def _for_each_threshold(self, round_name: str) -> tuple[str, ...]:
        """The names of the rounds of one kind, one per threshold."""
        if not isinstance(self.threshold, tuple):
            return (round_name,)
        return tuple(f"{round_name}{number}" for number in range(1, len(self.threshold) + 1))

    @property
    def _horizon(self) -> Triple | None:
        return None if self.horizon is None else zyx(self.horizon)

    def _column(self, round_name: str) -> int:
        """The number of the threshold that a round is for."""
        number = round_name.removeprefix(_kind(round_name))
        return int(number) - 1 if number else 0

    def _labels(self, previous: PreviousRound) -> ThresholdLabels:
        """The segments of a block at each threshold, on the graph of those at the highest."""
        labels = ThresholdLabels.settled(previous.retained, previous.received, len(self.thresholds))
        return labels.contracted() if labels.column < 0 else labels

    def _name_beyond(self, graph: BlockGraph, previous: PreviousRound, column: int) -> BlockGraph:
        """The graph with the segments, at one threshold, of the blocks beyond its low planes."""
        for axis, before in enumerate(BEFORE):
            if before in previous.neighbour_records:
                other = previous.neighbour_records[before]
                labels = ThresholdLabels.settled(
                    other.retained, other.received, len(self.thresholds)
                )
                at_plane = (labels.graph.piece_faces >> (2 * axis + 1)) & 1 == 1
                segment = labels.labels[labels.graph.piece_node[at_plane], column]
                graph = name_segments_beyond(graph, axis, labels.graph.piece[at_plane], segment)
        return graph

    def _join_across_planes(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        """The record of a node that consists of whole boxes of the horizon."""
        threshold = self.thresholds[self._column(round_name)]
        parts = [(plane_segments(child, threshold), box_of(child)) for child in children]
        joined = join_nodes(parts, block.write)
        passed = with_box(joined.passed.record(), block.write)
        return Up(passed, names_record(joined.before, joined.after))

    def _step(self, round_name: str, graph: BlockGraph, block: Block) -> Step:
        kind = _kind(round_name)
        if kind == "link":
            return link_pieces(graph)
        if kind == "merge":
            return merge_down_once(graph, self.thresholds)
        if kind == "small":
            return merge_down(graph, self.min_size_score, self.min_size)
        if kind == PLANES:
            near, _ = inner_faces(block.write, block.bounds, self._horizon)
            return join_across_planes(
                graph, self.thresholds[self._column(round_name)], whole=near == 0
            )
        return join_best(graph, self.join_score)


def _kind(round_name: str) -> str:
    """The name of a round without its number."""
    return round_name.rstrip("0123456789")
