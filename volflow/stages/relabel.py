"""The stage that paints segments."""

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
    """`fragments` under the names that `table` gives to their pieces."""

    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True)
    }

    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Which of the thresholds of `table` to paint; needed where it has several."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 24 * int(np.prod(shape))  # labels in and out, and a table of at most as many rows

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
