"""Stages that do nothing but write, for the overhead of the engine in any version of volflow."""

from __future__ import annotations

from typing import Any

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Columns, Layer, Stage


class Nothing(Stage):
    """A stage that neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:
        return {}


class Voxels(Stage):
    """A stage that writes a volume of one small chunk per block."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"voxels": Layer("uint8")}

    def run(self, block: Block) -> dict[str, Any]:
        return {"voxels": np.ones(block.write.shape, np.uint8)}


class Rows(Stage):
    """A stage that writes a table of one row per block."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"rows": Columns((("value", "int64"),))}

    def run(self, block: Block) -> dict[str, Any]:
        return {"rows": {"value": np.ones(1, np.int64)}}
