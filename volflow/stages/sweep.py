"""The `sweep` stage: scores at each of several thresholds from one run, and the best threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Columns, Group, Layer, Record
from volflow.metrics.voxels.overlaps import sum_overlaps
from volflow.segment.agglomeration.thresholds import check_sweep, segment_column, thresholds_of
from volflow.segment.relabel import relabel
from volflow.stages.masked import Masked
from volflow.stages.score import Score

ROWS_FACTOR = 4  # rows relative to one segmentation: low thresholds have far fewer


class Sweep(Masked, Score):
    """The scores of `score` at each threshold of `table`, without writing segmentations.

    The overlaps of truth labels and pieces are counted once; each threshold renames the pieces. The
    scores at a threshold are those of `score` for the segmentation that `relabel` writes at it.

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces, from the stage `fragments`.
    truth : integers, (Z, Y, X)
        True labels; 0 is unlabelled and ignored.
    table : table
        Segments of the pieces at several thresholds, from the stage `agglomerate`.
    foreground : uint8, (Z, Y, X), optional
        `round(255 p)` of the probability that a voxel is part of a cell; read if `mask_below` is
        given.

    Outputs
    -------
    result : JSON
        The scores at each threshold, and those at the best one.
    """

    version: ClassVar[int] = 1
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True),
        "truth": Layer(kind="segmentation", channels=0),
        "foreground": Layer("uint8", 0),
    }

    by: Literal["vi", "arand"] = "vi"
    """The score that is lowest at the best threshold; `require` applies to that threshold."""

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        return [text for table in tables.values() for text in check_sweep(dict(table.dtypes))]

    def node_memory(self, shape: Triple) -> int:
        return ROWS_FACTOR * super().node_memory(shape)

    def group_memory(self, bounds: Box) -> int:
        return ROWS_FACTOR * super().group_memory(bounds)

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        fragments: np.ndarray,
        truth: np.ndarray,
        table: Record,
        foreground: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> Record:
        fragments = self.finished_pieces(block, fragments, foreground)
        shared = super().rows(block, segmentation=fragments, truth=truth, mask=mask)
        table = self.rows_by_piece(table)
        records = {}
        for threshold in thresholds_of(table):
            segment = relabel(shared["segment"], table["piece"], table[segment_column(threshold)])
            records[threshold] = sum_overlaps({**shared, "segment": segment}).record()
        return _together(records)

    def combine(self, round_name: str, rows: Record) -> Record:
        return _together(
            {t: super(Sweep, self).combine(round_name, own) for t, own in _apart(rows)}
        )

    def group(self, round_name: str, rows: Record) -> Group:
        groups = {t: super(Sweep, self).group(round_name, own) for t, own in _apart(rows)}
        columns = {
            f"{threshold!r}/{name}": column
            for threshold, group in groups.items()
            for name, column in group.partial.items()
        }
        return Group(columns, _together({t: group.rows for t, group in groups.items()}))

    def result(self, partials: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        parts = [part for parts in partials.values() for part in parts]
        thresholds = sorted({float(name.partition("/")[0]) for part in parts for name in part})
        scores_by_threshold = [
            {"threshold": threshold, **super(Sweep, self).result(_of(threshold, partials))}
            for threshold in thresholds
        ]
        counted = [scores for scores in scores_by_threshold if scores[self.by] is not None]
        best = min(counted, key=lambda scores: float(scores[self.by]), default=None)
        curve = [
            {n: v for n, v in scores.items() if n != "worst"} for scores in scores_by_threshold
        ]
        return {"by": self.by, "best": best, "thresholds": curve}

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return super().unmet(result["best"] or dict.fromkeys(self.require))


def _together(records: Mapping[float, Record]) -> Record:
    """Rows of several thresholds in one table, ascending, with the threshold as a column."""
    filled = {threshold: rows for threshold, rows in sorted(records.items()) if rows}
    if not filled:
        return {}
    lengths = [len(rows["count"]) for rows in filled.values()]
    thresholds = np.array(list(filled), np.float64)
    names = next(iter(filled.values()))
    columns = {name: np.concatenate([r[name] for r in filled.values()]) for name in names}
    return {"threshold": np.repeat(thresholds, lengths), **columns}


def _apart(rows: Record) -> list[tuple[float, Record]]:
    """The rows of each threshold that occurs, ascending."""
    if not rows:
        return []
    thresholds, number = np.unique(rows["threshold"], return_inverse=True)
    others = {name: column for name, column in rows.items() if name != "threshold"}
    return [
        (threshold, {name: column[number == at] for name, column in others.items()})
        for at, threshold in enumerate(thresholds.tolist())
    ]


def _of(threshold: float, records: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """The records of the partitions at one threshold, with the column names of `score`."""
    start = f"{threshold!r}/"
    return {
        round_name: [
            {name.removeprefix(start): c for name, c in part.items() if name.startswith(start)}
            for part in parts
        ]
        for round_name, parts in records.items()
    }
