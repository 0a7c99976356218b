"""The `multicut` stage: a whole volume segmented by a multicut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from volflow.core.geometry import Block, BlockGrid, Triple
from volflow.core.stage import AREA, LENGTH, Columns, Layer, Record, Stage
from volflow.segment.multicut import contacts, edge_costs, library, multicut, named_by_last_voxel
from volflow.segment.restrict import masked
from volflow.segment.section_watershed import WatershedOptions, boundaries, stack_fragments

BYTES_PER_VOXEL = 60  # measured: 53 to 57, including the affinities and the foreground read
Fraction = Annotated[float, Field(ge=0, le=1)]


class Multicut(Stage):
    """Segments of `affinity`: a watershed of each section, then one multicut of all fragments.

    The multicut is solved for the whole volume at once, so one block has to cover the bounds. Needs
    bioimage-cpp: `pip install '.[multicut]'`.

    Inputs
    ------
    affinity : uint8, (3, Z, Y, X)
        `round(255 p)`; `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    foreground : uint8, (Z, Y, X), optional
        `round(255 p)` of the probability that a voxel is part of a cell; voxels below `mask_below`
        are background.

    Outputs
    -------
    segmentation : uint64, (Z, Y, X)
        Segments; 0 is background.

    References
    ----------
    Beier et al., Multicut brings automated neurite segmentation closer to human performance, Nature
    Methods 2017, in the variant of python-elf that SegNeuron uses; see `segment/multicut.py`.
    """

    RENAMED: ClassVar[dict[str, str]] = {"least": "mask_below"}
    wants: ClassVar[dict[str, Layer]] = {
        "affinity": Layer("uint8", 3, "affinity"),
        "foreground": Layer("uint8", 0),
    }

    beta: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Bias of the multicut, 0 to 1, exclusive: below 0.5 joins more fragments, above 0.5 fewer."""
    level: Fraction = 0.25
    """Boundary probability (1 - affinity), 0 to 1; pixels above this count as boundary in the
    distance transform that gives the seeds of the watershed."""
    sigma: Annotated[float, Field(gt=0, le=100), LENGTH] = 2.0
    """Standard deviation in pixels, up to 100, or in units, of the Gaussian that smooths distances
    and boundaries before the watershed."""
    share: Fraction = 0.9
    """Weight, 0 to 1, of the boundary probability in the height map of the watershed; the rest is
    proximity to boundaries."""
    min_size: Annotated[int, Field(ge=1), AREA] = 100
    """Size in pixels of a section, at least 1, or an area in units; smaller fragments are divided
    among their neighbours before the multicut."""
    mask_below: Fraction = 0.5
    """Fraction of 255, 0 to 1; voxels whose foreground is below it are background. 0: no mask."""

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"segmentation": Layer("uint64", 0, "segmentation")}

    def memory(self, shape: Triple) -> int:
        return BYTES_PER_VOXEL * int(np.prod(shape))

    def check(self, grid: BlockGrid) -> list[str]:
        problems = []
        if len(grid) > 1:
            problems.append(
                f"block: a multicut needs one block that covers the bounds of "
                f"{_listed(grid.bounds.shape)} voxels; got blocks of {_listed(grid.shape)}. Set "
                f"`block: {_listed(grid.bounds.shape)}`, or use fragments, agglomerate and relabel "
                f"for a volume that does not fit in memory"
            )
        try:
            library("graph")
        except ImportError as error:
            problems.append(str(error))
        return problems

    def run(  # type: ignore[override]  # the inputs by name
        self,
        block: Block,
        *,
        affinity: np.ndarray,
        foreground: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> dict[str, np.ndarray | Record]:
        boundary = boundaries(affinity, mask)
        options = WatershedOptions(self.level, self.sigma, self.share, self.min_size)
        fragments = stack_fragments(boundary, mask, options)
        touching = contacts(fragments, boundary)
        costs = edge_costs(touching.boundary, touching.size, self.beta)
        count = int(fragments.max(initial=0))
        parts = multicut(count + 1, touching.pairs, costs) + np.uint64(1)
        parts[0] = 0  # background
        segments = masked(parts[fragments], foreground, self.mask_below)
        return {"segmentation": named_by_last_voxel(segments)}


def _listed(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(side) for side in shape) + "]"
