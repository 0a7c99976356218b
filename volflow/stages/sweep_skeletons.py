"""The `sweep_skeletons` stage: run lengths at each of several thresholds from one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Columns, Layer, PreviousRound, Record, Up
from volflow.segment.agglomeration.thresholds import check_sweep, segment_column, thresholds_of
from volflow.segment.relabel import relabel
from volflow.stages.masked import Masked
from volflow.stages.score_skeletons import ScoreSkeletons

LABEL = "label@"


class SweepSkeletons(Masked, ScoreSkeletons):
    """The scores of `score_skeletons` at each threshold of `table`, without writing segmentations.

    Each block reads the pieces at its nodes once; each threshold renames them. The scores at a
    threshold are those of `score_skeletons` for the segmentation that `relabel` writes at it.

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces, from the stage `fragments`.
    table : table
        Segments of the pieces at several thresholds, from the stage `agglomerate`.
    foreground : uint8, (Z, Y, X), optional
        `round(255 p)` of the probability that a voxel is part of a cell; read if `mask_below` is
        given.
    skeletons, mito, clefts, nuclei : see `score_skeletons`
        The same inputs as there; all but `skeletons` are optional.

    Outputs
    -------
    result : JSON
        The scores at each threshold, and those at the best one.
    """

    wants: ClassVar[dict[str, Layer]] = {
        **{
            name: replace(layer, halo_region="nothing")
            for name, layer in ScoreSkeletons.wants.items()
            if name != "segmentation"
        },
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True),
        "foreground": Layer("uint8", 0),
    }

    by: Literal["erl", "terl", "berl", "nerl", "nerl_norm"] = "erl"
    """The score that is highest at the best threshold; `require` applies to that threshold."""

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        return [text for table in tables.values() for text in check_sweep(dict(table.dtypes))]

    def leaf(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        round_name: str,
        previous: PreviousRound | None,
        *,
        fragments: np.ndarray,
        table: Record,
        skeletons: Record,
        mito: np.ndarray | None = None,
        clefts: np.ndarray | None = None,
        nuclei: np.ndarray | None = None,
        foreground: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> Up:
        pieces = block.crop(self.finished_pieces(block, fragments, foreground))
        if mask is not None:
            own = block.crop(mask)
            pieces = np.where(own, pieces, pieces.dtype.type(0))
            mito, clefts, nuclei = (
                None if labels is None else np.where(own, labels, labels.dtype.type(0))
                for labels in (mito, clefts, nuclei)
            )
        beyond = np.array(block.write.start) - np.array(block.read.start)
        at_nodes = super().leaf(
            block,
            round_name,
            previous,
            segmentation=pieces,
            skeletons={**skeletons, "voxel": skeletons["voxel"] - beyond},
            mito=mito,
            clefts=clefts,
            nuclei=nuclei,
        )
        piece = at_nodes.passed["label"]
        table = self.rows_by_piece(table)
        labels = {
            f"{LABEL}{threshold!r}": relabel(
                piece, table["piece"], table[segment_column(threshold)]
            )
            for threshold in thresholds_of(table)
        }
        return Up({**at_nodes.passed, **labels}, {})

    def result(self, roots: Sequence[Record]) -> dict[str, Any]:
        names = [name for name in roots[0] if name.startswith(LABEL)]
        scores_by_threshold = []
        for threshold in sorted(float(name.removeprefix(LABEL)) for name in names):
            chosen = [{**_plain(root), "label": root[f"{LABEL}{threshold!r}"]} for root in roots]
            scores_by_threshold.append({"threshold": threshold, **super().result(chosen)})
        known = [scores for scores in scores_by_threshold if scores[self.by] is not None]
        best = max(known, key=lambda scores: float(scores[self.by]), default=None)
        return {
            "by": self.by,
            "best": best,
            "thresholds": [_numbers(scores) for scores in scores_by_threshold],
        }

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        return super().unmet(result["best"] or dict.fromkeys(self.require))


def _plain(root: Record) -> Record:
    """A record without the labels at the thresholds."""
    return {name: column for name, column in root.items() if not name.startswith(LABEL)}


def _numbers(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores without tables and lists."""
    return {name: value for name, value in scores.items() if not isinstance(value, dict | list)}
