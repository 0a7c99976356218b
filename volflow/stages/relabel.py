"""The `relabel` stage: a segmentation from fragments and a table of segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record
from volflow.segment.agglomeration.thresholds import chosen_column
from volflow.segment.relabel import relabel
from volflow.stages.masked import Masked


class Relabel(Masked):
    """Segmentation: each piece of `fragments` replaced by its segment in `table`.

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces, from the stage `fragments`.
    table : table
        `piece` and `segment`, from the stage `agglomerate` or `objects` on the same blocks.
    foreground : uint8, (Z, Y, X), optional
        `round(255 p)` of the probability that a voxel is part of a cell; read if `mask_below` is
        given.

    Outputs
    -------
    segmentation : uint64, (Z, Y, X)
        Segments; 0 is background.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True),
        "foreground": Layer("uint8", 0),
    }

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """The threshold, 0 to 1, whose segments are used; required if `table` has several."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        # Labels in and out, and a table of at most one row each; with a mask the labels twice, and
        # filled twice more, with two offsets of 2 bytes and the tables of the blocks around.
        per_voxel = (33 if self.mask_below else 24) + (36 if self.fill_nm else 0)
        return per_voxel * int(np.prod(shape))

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        for table in tables.values():
            try:
                chosen_column([name for name, _ in table.dtypes], self.threshold)
            except ValueError as error:
                return [str(error)]
        return []

    def run(  # type: ignore[override]
        self,
        block: Block,
        *,
        fragments: np.ndarray,
        table: Record,
        foreground: np.ndarray | None = None,
    ) -> dict[str, np.ndarray | Record]:
        table = self.rows_by_piece(table)
        names = table["piece"], table[chosen_column(table, self.threshold)]
        if not self.fill_nm:
            return {"segmentation": self.finished(relabel(fragments, *names), foreground)}
        known = block.read.clip(block.bounds)
        inside = known.within(block.read)
        labels = relabel(fragments[inside], *names)
        labels = self.finished(labels, None if foreground is None else foreground[inside])
        return {"segmentation": labels[block.write.within(known)]}
