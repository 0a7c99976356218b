"""The `sweep` stage: the score of each of many thresholds from one run, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Columns, Group, Layer, Record
from volflow.metrics.voxels.overlaps import sum_overlaps
from volflow.segment.agglomeration.thresholds import not_many, segment_column, thresholds_of
from volflow.segment.relabel import relabel
from volflow.stages.score import Score

MANY = 4  # times the rows of one segmentation: those at low thresholds are much fewer


class Sweep(Score):
    """The scores of `score` at each threshold of `table`, without painting a segmentation.

    What truth labels and pieces share is counted once; each threshold names the pieces anew. The
    scores at a threshold are those that `score` gives to what `relabel` paints at it.
    """

    version: ClassVar[int] = 1
    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True),
        "truth": Layer(kind="segmentation", channels=0),
    }

    by: Literal["vi", "arand"] = "vi"
    """The score that is lowest at the best threshold; `require` is asked of that one."""

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        return [text for table in tables.values() for text in not_many(dict(table.dtypes))]

    def node_memory(self, shape: Triple) -> int:
        return MANY * super().node_memory(shape)

    def group_memory(self, bounds: Box) -> int:
        return MANY * super().group_memory(bounds)

    def rows(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        fragments: np.ndarray,
        truth: np.ndarray,
        table: Record,
        mask: np.ndarray | None = None,
    ) -> Record:
        shared = super().rows(block, segmentation=fragments, truth=truth, mask=mask)
        found = {}
        for threshold in thresholds_of(table):
            segment = relabel(shared["segment"], table["piece"], table[segment_column(threshold)])
            found[threshold] = sum_overlaps({**shared, "segment": segment}).record()
        return _together(found)

    def combine(self, round_name: str, rows: Record) -> Record:
        return _together(
            {t: super(Sweep, self).combine(round_name, own) for t, own in _apart(rows)}
        )

    def group(self, round_name: str, rows: Record) -> Group:
        made = {t: super(Sweep, self).group(round_name, own) for t, own in _apart(rows)}
        found = {
            f"{threshold!r}/{name}": column
            for threshold, group in made.items()
            for name, column in group.partial.items()
        }
        return Group(found, _together({t: group.rows for t, group in made.items()}))

    def result(self, found: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
        parts = [part for parts in found.values() for part in parts]
        thresholds = sorted({float(name.partition("/")[0]) for part in parts for name in part})
        told = [
            {"threshold": threshold, **super(Sweep, self).result(_of(threshold, found))}
            for threshold in thresholds
        ]
        counted = [scores for scores in told if scores[self.by] is not None]
        best = min(counted, key=lambda scores: float(scores[self.by]), default=None)
        curve = [{n: v for n, v in scores.items() if n != "worst"} for scores in told]
        return {"by": self.by, "best": best, "thresholds": curve}

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return super().unmet(result["best"] or dict.fromkeys(self.require))


def _together(found: Mapping[float, Record]) -> Record:
    """Rows of several thresholds in one table, ascending, told apart by a column."""
    filled = {threshold: rows for threshold, rows in sorted(found.items()) if rows}
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


def _of(threshold: float, found: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """What partitions found at one threshold, under the names that a score gives it."""
    start = f"{threshold!r}/"
    return {
        round_name: [
            {name.removeprefix(start): c for name, c in part.items() if name.startswith(start)}
            for part in parts
        ]
        for round_name, parts in found.items()
    }
