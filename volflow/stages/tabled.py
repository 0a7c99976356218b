"""Stages that leave a table of the whole volume, as CSV and on request as Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from volflow.core.geometry import BlockGrid
from volflow.core.stage import Grouping, Record

DECIMALS = 3  # of positions, areas and scores in a table
DIGITS = {"volume_um3": 9, "affinity": 6}
MISSING = "parquet: the package pyarrow is not installed: pip install '.[parquet]'"


class Tabled(Grouping):
    """A grouping whose table is the columns of its last round's partial results."""

    columns: ClassVar[tuple[tuple[str, str], ...]]
    """Columns of the table and their types; rows are sorted by the first ones."""

    parquet: bool = False
    """Whether to write the table as Parquet, too, a file per partition: `results/STEP.parquet`."""

    @property
    def writes_parquet(self) -> bool:
        return self.parquet

    def check(self, grid: BlockGrid) -> list[str]:
        return [MISSING] if self.parquet and find_spec("pyarrow") is None else []

    def table(self, partials: Mapping[str, Sequence[Record]]) -> Record:
        parts = [part for part in partials[self.rounds[-1]] if len(part.get(self.first, ()))]
        table = {
            name: np.concatenate([np.zeros(0, dtype), *(part[name] for part in parts)])
            for name, dtype in self.columns
        }
        keys = [name for name, dtype in self.columns if dtype == "uint64"]
        order = np.lexsort([table[name] for name in reversed(keys)])
        return {
            name: column[order].round(DIGITS.get(name, DECIMALS))
            if column.dtype.kind == "f"
            else column[order]
            for name, column in table.items()
        }

    @property
    def first(self) -> str:
        """The name of the first column."""
        return self.columns[0][0]
