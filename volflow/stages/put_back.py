"""The `put_back` stage: labels made without some sections, with these sections put back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Box, Gaps, Triple, Zyx
from volflow.core.stage import Columns, Layer, Phase, Record, Stage


class PutBack(Stage):
    """Labels with their closed sections put back, each a copy of the nearest section.

    Planning adds this stage where a run closes sections (`closed_sections` of a pipeline). Of two
    sections equally near, the one before is copied.

    Inputs
    ------
    labels : unsigned integers, (Z, Y, X)
        Labels of the sections that are left, closed up.

    Outputs
    -------
    opened : unsigned integers, (Z, Y, X)
        Labels of all sections of the bounds.
    """

    on_all_sections: ClassVar[bool] = True
    wants: ClassVar[dict[str, Layer]] = {"labels": Layer(kind="segmentation")}

    sections: Annotated[tuple[int, ...], Field(min_length=1)]
    """z of the sections that are put back, voxels."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"opened": Layer("", None, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return 24 * int(np.prod(shape))  # read, copied, and as chunks

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        return (Phase("map", "map", _OpenGrid(grid, Gaps(self.sections))),)

    def run(  # type: ignore[override]
        self, block: Block, *, labels: np.ndarray
    ) -> dict[str, np.ndarray | Record]:
        gaps, (first, *_), (start, stop) = Gaps(self.sections), block.read.start, _depth(block)
        nearest = [gaps.nearest(z, block.bounds) - first for z in range(start, stop)]
        return {"opened": labels[..., nearest, :, :]}


@dataclass(frozen=True, init=False)
class _OpenGrid(BlockGrid):
    """Blocks that write boxes of the volume, and read boxes of it with its sections closed up."""

    gaps: Gaps

    def __init__(self, grid: BlockGrid, gaps: Gaps) -> None:
        super().__init__(grid.bounds, grid.shape)
        object.__setattr__(self, "gaps", gaps)

    def __getitem__(self, key: int | Triple) -> Block:
        block = BlockGrid.__getitem__(self, key)
        start, stop = _depth(block)
        first = self.gaps.nearest(start, self.bounds)
        last = self.gaps.nearest(stop - 1, self.bounds)
        (_, y, x), (_, end_y, end_x) = block.write.start, block.write.stop
        return replace(block, read=Box(Zyx(first, y, x), Zyx(last + 1, end_y, end_x)))


def _depth(block: Block) -> tuple[int, int]:
    return block.write.start[0], block.write.stop[0]
