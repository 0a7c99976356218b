"""The stage that segments a whole volume by a multicut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Record, Stage
from volflow.segment.multicut import contacts, edge_costs, library, multicut, named_by_last_voxel
from volflow.segment.restrict import in_foreground
from volflow.segment.section_watershed import Flooding, boundaries, stack_fragments

BYTES_PER_VOXEL = 60  # measured: 53 to 57, affinities and foreground that were read included
Fraction = Annotated[float, Field(ge=0, le=1)]


class Multicut(Stage):
    """Segments of `affinity`: a watershed of each section, then one multicut over all of them.

    It is solved on the bounds as a whole, so one block has to cover them. Where there is a volume
    `foreground`, what is below `least` of it is no part of a segment.
    """

    wants: ClassVar[dict[str, Layer]] = {
        "affinity": Layer("uint8", 3, "affinity"),
        "foreground": Layer("uint8", 0),
    }

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Below 0.5 joins more, above less."""
    level: Fraction = 0.25
    """A pixel whose boundary, 1 - affinity, is above this keeps seeds of the watershed away."""
    sigma: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Pixels over which distances and boundaries are smoothed for the watershed."""
    share: Fraction = 0.9
    """Of the boundary in the height that is flooded; the rest is nearness to boundaries."""
    min_size: Annotated[int, Field(ge=1)] = 100
    """Pixels of a section; a smaller fragment is given to its neighbours before the multicut."""
    least: Fraction = 0.5
    """A voxel whose foreground is below this fraction of 255 belongs to no segment."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def check(self, grid: BlockGrid) -> list[str]:
        wrong = []
        if len(grid) > 1:
            wrong.append(
                f"a multicut is solved on the whole volume at once, so one block must cover the "
                f"bounds of {_listed(grid.bounds.shape)} voxels; got blocks of "
                f"{_listed(grid.shape)}. Give the step `block: {_listed(grid.bounds.shape)}`, or "
                f"for a volume that does not fit in memory take fragments, agglomerate, relabel"
            )
        try:
            library("graph")
        except ImportError as error:
            wrong.append(str(error))
        return wrong

    def run(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        affinity: np.ndarray,
        foreground: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> dict[str, np.ndarray | Record]:
        boundary = boundaries(affinity, mask)
        how = Flooding(self.level, self.sigma, self.share, self.min_size)
        fragments = stack_fragments(boundary, mask, how)
        found = contacts(fragments, boundary)
        costs = edge_costs(found.boundary, found.size, self.beta)
        count = int(fragments.max(initial=0))
        parts = multicut(count + 1, found.pairs, costs) + np.uint64(1)
        parts[0] = 0  # no fragment
        segments = parts[fragments]
        if foreground is not None:
            segments[~in_foreground(foreground, self.least)] = 0
        return {"segmentation": named_by_last_voxel(segments)}


def _listed(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(side) for side in shape) + "]"
