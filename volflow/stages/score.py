"""The `score` stage: a segmentation compared with the truth, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import SIZE, Group, Grouping, Layer, Record
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
VOXELS_PER_ROW = 64  # lower bound; measured on a fine oversegmentation: about 200
BYTES_PER_ROW = 320  # peak of a partition: rows, sorted rows, and scores

METRICS = (
    "vi", "vi_split", "vi_merge", "arand", "precision", "recall", "arand_all_pairs",
    "precision_all_pairs", "recall_all_pairs",
)  # fmt: skip


Overlap = Annotated[float, Field(ge=0.5, le=1)]
Side = Annotated[float, Field(gt=0)]


class Score(Limited, Grouping):
    """Variation of information (bits) and adapted Rand error of `segmentation` against `truth`.

    Voxels of truth label 0 and voxels outside the mask are ignored; segment 0 is a segment like any
    other. The result does not depend on the blocks. Rows of overlaps are grouped by truth label,
    then by segment, so that no process has to hold a table of the whole volume.

    Inputs
    ------
    segmentation : integers, (Z, Y, X)
        The segmentation to evaluate.
    truth : integers, (Z, Y, X)
        True labels; 0 is unlabelled and ignored.

    Outputs
    -------
    result : JSON
        The scores, and the worst splits and mergers with their positions.

    References
    ----------
    See `docs/metrics.md`.
    """

    on_all_sections: ClassVar[bool] = True
    version: ClassVar[int] = 2
    metrics: ClassVar[tuple[str, ...]] = METRICS
    wants: ClassVar[dict[str, Layer]] = {
        "segmentation": Layer(kind="segmentation", channels=0),
        "truth": Layer(kind="segmentation", channels=0),
    }

    border: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Distance, 0 to 64, in the unit of `border_spacing` (voxels by default); voxels within it of
    another truth label, or of truth 0, are ignored. 0: all voxels count."""
    border_spacing: tuple[Side, Side, Side] = (1.0, 1.0, 1.0)
    """Sides z y x of a voxel in the unit of `border`; [10, 1, 1] with a `border` below 10 measures
    within sections only."""
    objects: tuple[Overlap, ...] = ()
    """Smallest overlaps (intersection over union, 0.5 to 1), ascending, at which a segment counts
    as a detected object: precision, recall, F1 and average precision of objects are reported for
    each."""
    min_object: Annotated[int, Field(ge=1), SIZE] = 1
    """Size in voxels, at least 1, or in units; smaller objects are ignored, in truth and in
    segmentation."""
    worst: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Number, up to 10,000, of the worst splits and mergers to report with their positions."""

    @field_validator("objects")
    @classmethod
    def _ascending(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if list(given) != sorted(set(given)):
            raise ValueError(f"expected distinct overlaps in ascending order; got {list(given)}")
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
            known = block.read.clip(block.bounds)
            off_border = interior_mask(
                truth[known.within(block.read)], self.border, self.border_spacing
            )
            off_border = off_border[block.write.within(known)]
            counted = off_border if counted is None else counted & off_border
        return count_overlaps(
            *own, counted, block.write.start, unlabelled=bool(self.objects)
        ).record()

    def combine(self, round_name: str, rows: Record) -> Record:
        if round_name == "truth":
            return sum_overlaps(rows).record()
        order = np.lexsort((rows["truth"], rows["segment"]))  # pairs are complete already
        return {name: column[order] for name, column in rows.items()}

    def group(self, round_name: str, rows: Record) -> Group:
        if not rows:
            return Group({}, {})
        if round_name == "truth":
            columns = partial_scores_by_truth(rows, self.worst)
            return Group(columns, rows if not self.objects else with_label_sizes(rows, "truth"))
        columns = partial_scores_by_segment(rows, self.worst)
        if self.objects:
            whole = with_label_sizes(rows, "segment")
            pairs = count_matches(whole, self.objects, self.min_object, self.min_object)
            columns |= {f"match.{name}": column for name, column in pairs.record().items()}
            columns |= object_sizes(whole)
        return Group(columns, {})

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        truths, segments = ([part for part in partials[name] if part] for name in self.rounds)
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
        empty = count_matches({}, self.objects)
        truths = totals.truth.at_least(self.min_object)
        segment_sizes = join_sizes(segments, "object").at_least(self.min_object)
        return {"objects": object_scores(sum_matches([empty, *parts]), truths, segment_sizes)}
