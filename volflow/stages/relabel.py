"""The stage that paints segments."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from volflow.core.geometry import Block, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.relabel import relabel


class Relabel(Stage):
    """`fragments` under the names that `table` gives to their pieces."""

    wants: ClassVar[dict[str, Layer]] = {
        "fragments": Layer("uint64", 0, "segmentation", blockwise=True)
    }

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 24 * int(np.prod(shape))  # labels in and out, and a table of at most as many rows

    def run(  # type: ignore[override]
        self, block: Block, *, fragments: np.ndarray, table: Record
    ) -> dict[str, np.ndarray | Record]:
        return {"segmentation": relabel(fragments, table["piece"], table["segment"])}
