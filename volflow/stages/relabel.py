"""The `relabel` stage: a segmentation from fragments and a table of segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.agglomeration.thresholds import chosen_column
from volflow.segment.relabel import relabel


class Relabel(Stage):
    """Segmentation: each piece of `fragments` replaced by its segment in `table`.

    Inputs
    ------
    fragments : uint64, (Z, Y, X)
        Pieces, from the stage `fragments`.
    table : table
        `piece` and `segment`, from the stage `agglomerate` or `objects` on the same blocks.

    Outputs
    -------
    segmentation : uint64, (Z, Y, X)
        Segments; 0 is background.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True)
    }

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """The threshold, 0 to 1, whose segments are used; required if `table` has several."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 24 * int(np.prod(shape))  # labels in and out, and a table of at most one row each

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        for table in tables.values():
            try:
                chosen_column([name for name, _ in table.dtypes], self.threshold)
            except ValueError as error:
                return [str(error)]
        return []

    def run(  # type: ignore[override]
        self, block: Block, *, fragments: np.ndarray, table: Record
    ) -> dict[str, np.ndarray | Record]:
        segments = table[chosen_column(table, self.threshold)]
        return {"segmentation": relabel(fragments, table["piece"], segments)}
