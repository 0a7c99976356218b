"""The `score_clefts` stage: which synaptic clefts are found, cleft by cleft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Layer, NodeOutput, PreviousRound, Record, Reduction
from volflow.metrics.detections.clefts import (
    CLEFT_DISTANCE,
    Clefts,
    cleft_errors,
    match_by_distance,
    match_by_overlap,
)
from volflow.metrics.limits import Limited
from volflow.metrics.voxels.overlaps import count_overlaps, sum_overlaps

VIEWS = ("distance", "overlap")
METRICS = tuple(f"{view}_{rate}" for view in VIEWS for rate in ("precision", "recall", "f1"))
VOXELS_PER_BYTE = 512  # of a table of clefts at its peak; a synapse has some 500,000 around it

Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ScoreClefts(Limited, Reduction):
    """Precision, recall and F1 of `found_clefts` against `true_clefts`, both with a label to each.

    Clefts are paired one to one in two ways: by the distance of their centres (`distance`), and
    by sharing voxels (`overlap`); those that share none are told with their places. Blocks pass
    up counts and sums of coordinates of each pair of labels, in integers, so the result is the
    same whatever the blocks. Voxels outside the mask are of no cleft.
    """

    metrics: ClassVar[tuple[str, ...]] = METRICS
    wants: ClassVar[dict[str, Layer]] = {
        "found_clefts": Layer(kind="segmentation", channels=0),
        "true_clefts": Layer(kind="segmentation", channels=0),
    }

    resolution: tuple[Side, Side, Side]
    """Nanometres per voxel z y x, as the volumes have it: centres are compared in nanometres."""
    distance: Side = CLEFT_DISTANCE
    """Nanometres within which the centres of two clefts count as one."""
    min_size: Annotated[int, Field(ge=1)] = 1
    """Voxels; clefts of fewer, of either side, do not exist."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 100
    """How many of the largest missed and spurious clefts are told, with their places."""

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        if np.allclose(self.resolution, resolution, rtol=1e-3, atol=0):
            return []
        return [
            f"resolution: expected that of the run, {list(resolution)} nm (z, y, x); "
            f"got {list(self.resolution)}"
        ]

    def memory(self, shape: Triple) -> int:
        return 48 * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return (64 << 20) + int(np.prod(shape)) // VOXELS_PER_BYTE

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        found_clefts: np.ndarray,
        true_clefts: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> NodeOutput:
        met = count_overlaps(
            true_clefts, found_clefts, mask, block.write.start, unlabelled=True
        ).record()
        some = (met["truth"] != 0) | (met["segment"] != 0)
        return NodeOutput({name: column[some] for name, column in met.items()}, {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> NodeOutput:
        return NodeOutput(_together(children), {})

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        met = _together(roots)
        truth, found = (
            Clefts.of({**met, "label": met[side]}, self.resolution, self.min_size)
            for side in ("truth", "segment")
        )
        overlap = match_by_overlap(truth, found, met)
        return {
            "distance": match_by_distance(truth, found, self.distance).scores(),
            "overlap": overlap.scores(),
            "distance_nm": self.distance,
            "min_size": self.min_size,
            "truth_clefts": len(truth),
            "found_clefts": len(found),
            "errors": cleft_errors(truth, found, overlap, self.worst),
        }

    def value(self, result: Mapping[str, Any], name: str) -> float | None:
        view, _, rate = name.partition("_")
        found: float | None = result[view][rate]
        return found


def _together(parts: Sequence[Record]) -> Record:
    """Rows of several boxes, those of one pair of labels added up."""
    names = parts[0]
    return sum_overlaps({n: np.concatenate([part[n] for part in parts]) for n in names}).record()
