"""The `score_clefts` stage: precision and recall of detected synaptic clefts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import SIZE, Layer, PreviousRound, Record, Reduction, Up
from volflow.metrics.detections.clefts import (
    CLEFT_DISTANCE,
    Clefts,
    cleft_errors,
    match_by_distance,
    match_by_overlap,
)
from volflow.metrics.limits import Limited
from volflow.metrics.voxels.overlaps import count_overlaps, sum_overlaps
from volflow.stages.voxel_sized import VoxelSized

VIEWS = ("distance", "overlap")
METRICS = tuple(f"{view}_{rate}" for view in VIEWS for rate in ("precision", "recall", "f1"))
VOXELS_PER_BYTE = (
    512  # of a table of clefts at its peak; there is one synapse in some 500,000 voxels
)

Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ScoreClefts(Limited, VoxelSized, Reduction):
    """Precision, recall and F1 of `found_clefts` against `true_clefts`, both with one label each.

    Clefts are matched one to one in two ways: by the distance of their centres (`distance`), and by
    shared voxels (`overlap`); clefts without shared voxels are reported with their positions.
    Blocks pass up integer counts and sums of coordinates for each pair of labels, so the result
    does not depend on the blocks. Voxels outside the mask belong to no cleft.

    Inputs
    ------
    found_clefts : integers, (Z, Y, X)
        Detected clefts, a label each; 0 is background.
    true_clefts : integers, (Z, Y, X)
        True clefts, a label each; 0 is background.

    Outputs
    -------
    result : JSON
        Scores by distance and by overlap, and the largest missed and spurious clefts.
    """

    metrics: ClassVar[tuple[str, ...]] = METRICS
    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {
        "found_clefts": Layer(kind="segmentation", channels=0),
        "true_clefts": Layer(kind="segmentation", channels=0),
    }

    distance: Side = CLEFT_DISTANCE
    """Largest distance in nanometres between the centres of two matching clefts."""
    min_size: Annotated[int, Field(ge=1), SIZE] = 1
    """Size in voxels, at least 1, or in units; smaller clefts are ignored, detected or true."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Number, up to 10,000, of the largest missed and spurious clefts to report with their
    positions."""

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        return self.resolution_problems(resolution)

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
    ) -> Up:
        overlaps = count_overlaps(
            true_clefts, found_clefts, mask, block.write.start, unlabelled=True
        ).record()
        labelled = (overlaps["truth"] != 0) | (overlaps["segment"] != 0)
        return Up({name: column[labelled] for name, column in overlaps.items()}, {})

    def join(self, block: Block, round_name: str, children: Sequence[Record]) -> Up:
        return Up(_together(children), {})

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        overlaps = _together(roots)
        true, detected = (
            Clefts.of({**overlaps, "label": overlaps[side]}, self.voxel_nm, self.min_size)
            for side in ("truth", "segment")
        )
        overlap = match_by_overlap(true, detected, overlaps)
        return {
            "distance": match_by_distance(true, detected, self.distance).scores(),
            "overlap": overlap.scores(),
            "distance_nm": self.distance,
            "min_size": self.min_size,
            "truth_clefts": len(true),
            "found_clefts": len(detected),
            "errors": cleft_errors(true, detected, overlap, self.worst),
        }

    def value(self, result: Mapping[str, Any], name: str) -> float | None:
        view, _, rate = name.partition("_")
        score: float | None = result[view][rate]
        return score


def _together(parts: Sequence[Record]) -> Record:
    """Rows of several boxes, added up for each pair of labels."""
    names = parts[0]
    return sum_overlaps({n: np.concatenate([part[n] for part in parts]) for n in names}).record()
