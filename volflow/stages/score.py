"""The `score` stage: how far a segmentation is from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Group, Grouping, Layer, Record
from volflow.metrics.detections.objects import (
    MatchCounts,
    count_matches,
    object_scores,
    sum_matches,
)
from volflow.metrics.limits import Limited
from volflow.metrics.voxels.border_mask import border_halo, interior_mask
from volflow.metrics.voxels.contingency import GroupSizes, scores
from volflow.metrics.voxels.overlaps import count_overlaps, sum_overlaps
from volflow.metrics.voxels.partial_scores import (
    join_group_sizes,
    join_sizes,
    object_sizes,
    partial_scores_by_segment,
    partial_scores_by_truth,
    with_label_sizes,
    worst_errors,
)

MOST_PARTITIONS = 1024
VOXELS_PER_PARTITION = 1 << 26
VOXELS_PER_ROW = 64  # at the least; measured on a fine oversegmentation: about 200
BYTES_PER_ROW = 320  # of a partition at its peak: rows, sorted, and what is made of them

METRICS = (
    "vi", "vi_split", "vi_merge", "arand", "precision", "recall", "arand_all_pairs",
    "precision_all_pairs", "recall_all_pairs",
)  # fmt: skip


Overlap = Annotated[float, Field(ge=0.5, le=1)]
Side = Annotated[float, Field(gt=0)]


class Score(Limited, Grouping):
    """Variation of information (bits) and adapted Rand error of `segmentation` against `truth`.

    Voxels of truth label 0 and voxels outside the mask are ignored; segment 0 is a segment like
    any other. The result is the same whatever the blocks, and no table of the whole volume is
    ever in one memory: rows of overlaps are grouped by truth label, then by segment.
    """

    version: ClassVar[int] = 2
    metrics: ClassVar[tuple[str, ...]] = METRICS
    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "truth": Layer(kind="segmentation", channels=0),
    }

    border: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Voxels this near to another truth label, or to truth 0, are not counted; 0: all are."""
    border_spacing: tuple[Side, Side, Side] = (1.0, 1.0, 1.0)
    """Sides of a voxel z y x, in the unit of `border`; [10, 1, 1] looks within sections only."""
    objects: tuple[Overlap, ...] = ()
    """Least overlaps (intersection over union), ascending, at which a segment counts as an object
    found: precision, recall, F1 and average precision of objects are told for each."""
    min_object: Annotated[int, Field(ge=1)] = 1
    """Voxels; objects of fewer are neither to be found nor found."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 20
    """How many of the worst splits and mergers are told, with their places."""

    @field_validator("objects")
    @classmethod
    def _ascending(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if list(given) != sorted(set(given)):
            raise ValueError(f"expected ascending overlaps, each once; got {list(given)}")
        return given

    @property
    def halo(self) -> Triple:
        return border_halo(self.border, self.border_spacing)

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("truth", "segment")

    def key(self, round_name: str) -> tuple[str, ...]:
        return (round_name,)

    def partitions(self, bounds: Box) -> int:
        return max(1, min(MOST_PARTITIONS, -(-bounds.size // VOXELS_PER_PARTITION)))

    def memory(self, shape: Triple) -> int:
        return 48 * int(np.prod(shape))

    def node_memory(self, shape: Triple) -> int:
        return BYTES_PER_ROW * int(np.prod(shape)) // VOXELS_PER_ROW

    def group_memory(self, bounds: Box) -> int:
        return BYTES_PER_ROW * bounds.size // self.partitions(bounds) // VOXELS_PER_ROW

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        segmentation: np.ndarray,
        truth: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> Record:
        own = block.crop(truth), block.crop(segmentation)
        counted = None if mask is None else block.crop(mask)
        if self.border:
            there = block.read.clip(block.bounds)  # beyond the volume nothing is known
            kept = interior_mask(truth[there.within(block.read)], self.border, self.border_spacing)
            kept = kept[block.write.within(there)]
            counted = kept if counted is None else counted & kept
        return count_overlaps(
            *own, counted, block.write.start, unlabelled=bool(self.objects)
        ).record()

    def combine(self, round_name: str, rows: Record) -> Record:
        if round_name == "truth":
            return sum_overlaps(rows).record()
        order = np.lexsort((rows["truth"], rows["segment"]))  # pairs are whole by now
        return {name: column[order] for name, column in rows.items()}

    def group(self, round_name: str, rows: Record) -> Group:
        if not rows:
            return Group({}, {})
        if round_name == "truth":
            found = partial_scores_by_truth(rows, self.worst)
            return Group(found, rows if not self.objects else with_label_sizes(rows, "truth"))
        found = partial_scores_by_segment(rows, self.worst)
        if self.objects:
            whole = with_label_sizes(rows, "segment")
            pairs = count_matches(whole, self.objects, self.min_object, self.min_object)
            found |= {f"match.{name}": column for name, column in pairs.record().items()}
            found |= object_sizes(whole)
        return Group(found, {})

    def result(self, found: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        truths, segments = ([part for part in found[name] if part] for name in self.rounds)
        totals = join_group_sizes(truths, segments)
        voxels = max(1, totals.joint.voxels)
        return {
            **scores(totals),
            **self._objects(totals, segments),
            "worst": {
                "splits": worst_errors(
                    truths, self.worst, voxels, ("truth", "segment", "split_bits")
                ),
                "mergers": worst_errors(
                    segments, self.worst, voxels, ("segment", "truth", "merge_bits")
                ),
            },
        }

    def _objects(self, totals: GroupSizes, segments: Sequence[Record]) -> dict[str, Any]:
        if not self.objects:
            return {}
        names = ("threshold", "matched", "high", "low")
        parts = [MatchCounts(*(part[f"match.{name}"] for name in names)) for part in segments]
        none = count_matches({}, self.objects)
        truths = totals.truth.at_least(self.min_object)
        found = join_sizes(segments, "object").at_least(self.min_object)
        return {"objects": object_scores(sum_matches([none, *parts]), truths, found)}
