"""Stages whose blocks depend on the bounds around them, for the tests of the trial."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import Columns, Layer, Stage


class Loose(Stage):
    """Fails where its blocks are not inside the expected bounds."""

    bounds: str

    @property
    def halo(self) -> Triple:
        return (2, 2, 2)

    def halo_on(self, bounds: Box, shape: Triple) -> Triple:
        return (3, 3, 3) if bounds == Box.parse(self.bounds) else (2, 2, 2)

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"seen": Layer("uint32", 0, "segmentation")}

    def run(self, block: Block, *, index: np.ndarray) -> dict[str, Any]:
        wanted = Box.parse(self.bounds)
        if block.bounds != wanted or block.read != block.write.grow((3, 3, 3)):
            raise ValueError(f"the block is in {block.bounds} and reads {block.read}")
        outside = np.ones(block.read.shape, bool)
        outside[block.read.clip(wanted).within(block.read)] = False
        if index[outside].any() or not index[~outside].all():
            raise ValueError("nothing is to be read beyond the bounds, and something within")
        return {"seen": index}


class Anchored(Loose):
    """The same, with a warning."""

    anchored: ClassVar[bool] = True
