"""A stage: typed parameters, declared inputs and outputs, and one pure function of a block."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from volflow.core.geometry import Block, BlockGrid, Box, Triple
from volflow.core.stage.layer import Columns, Layer, Record
from volflow.core.stage.phase import Phase


class Stage(BaseModel):
    """One kind of work on a block; its fields are its parameters.

    A subclass defines `outputs` and `run`. The keyword-only arguments of `run` are its inputs; one
    with a default is optional. An argument called `mask` receives the boolean mask over the read
    box (None if the pipeline has no mask); without that argument, the outputs are set to zero
    outside the mask. A docstring below a field describes the parameter in `volflow schema`.

    Attributes
    ----------
    version : int
        Raise it when the same input gives other bytes than before.
    pool : str
        Kind of worker that runs the stage.
    wants : dict of Layer
        Requirements on the inputs, by name.
    anchored : bool
        Whether the result of a block depends on the bounds around it (tiles, open faces); a
        trial of a few blocks then passes the bounds of the whole volume.
    on_all_sections : bool
        Whether it works on all sections where a run closes some: on labels with these put back.
        Other stages work on the volume without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: ClassVar[int] = 1
    pool: ClassVar[str] = "cpu"
    wants: ClassVar[dict[str, Layer]] = {}
    anchored: ClassVar[bool] = False
    on_all_sections: ClassVar[bool] = False

    @property
    def halo(self) -> Triple:
        """Voxels read beyond the write box on each side."""
        return (0, 0, 0)

    def halo_on(self, bounds: Box, shape: Triple) -> Triple:
        """The halo of blocks of a shape in bounds, for stages whose halo depends on them."""
        return self.halo

    def block_on(self, bounds: Box, shape: Triple) -> Triple:
        """The shape of the step's blocks, for stages whose parameters determine it."""
        return shape

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        """The volumes and tables that the stage writes, by name."""
        return {}

    @classmethod
    def entry(cls) -> Any:
        """The function whose keyword-only arguments are the stage's inputs."""
        return cls.run

    @classmethod
    def inputs(cls) -> dict[str, bool]:
        """The names of the inputs, and whether each is required."""
        return dict(_inputs(cls.entry()))

    @classmethod
    def takes_mask(cls) -> bool:
        """Whether the stage receives the mask itself."""
        return "mask" in _signature(cls.entry()).parameters

    def memory(self, shape: Triple) -> int:
        """Peak bytes of one block whose read box has this shape, its input arrays included."""
        return 32 * int(np.prod(shape))

    def effort(self, grid: BlockGrid, bounds: Box) -> float:
        """The quantity that the time of all blocks of a grid grows with; here voxels written."""
        return float(grid.bounds.size)

    def check(self, grid: BlockGrid) -> list[str]:
        """Problems of these parameters on this grid, one sentence each.

        In a trial of a part of a run, `grid.whole` are the bounds of the run.
        """
        return []

    def check_inputs(
        self, inputs: Mapping[str, Layer | None], resolution: tuple[float, float, float]
    ) -> list[str]:
        """Problems of these parameters with the inputs, one sentence each.

        Parameters
        ----------
        inputs : mapping
            The connected inputs by name; None for a table, or where nothing is known.
        resolution : (float, float, float)
            z, y, x in nanometres per voxel.
        """
        return []

    def check_tables(self, tables: Mapping[str, Columns]) -> list[str]:
        """Problems of these parameters with the input tables, by input, one sentence each."""
        return []

    def identity(self) -> dict[str, Any]:
        """Everything but the inputs that the output depends on, as JSON; files by their content."""
        return self.model_dump(mode="json")

    @property
    def tables_in_halo(self) -> bool:
        """Whether an input table has the rows of all blocks in the read box, not only its own."""
        return False

    @property
    def names_sections(self) -> bool:
        """Whether parameters name sections by their z, which differs where a run closes some."""
        return False

    def reads(self, phase: Phase) -> frozenset[str]:
        """The inputs that a phase reads; the others are passed as None."""
        return frozenset(self.inputs())

    def phases(self, grid: BlockGrid) -> tuple[Phase, ...]:
        """The phases that make up the step, in order."""
        return (Phase("map", "map", grid),)

    def written_scales(self, grid: BlockGrid) -> set[int]:
        """The scales that the stage writes."""
        return {phase.scales[1] for phase in self.phases(grid)}

    def unmet(self, result: Mapping[str, Any]) -> list[str]:
        """The user's requirements that the step's result does not meet, one sentence each."""
        return []

    def warnings(self, result: Mapping[str, Any]) -> list[str]:
        """Facts about the step's result that the user should know, one sentence each."""
        return []

    def run(self, block: Block, **inputs: np.ndarray) -> dict[str, np.ndarray | Record]:
        """The outputs of one block, over its write box or its read box."""
        raise TypeError(f"{type(self).__name__} has no run()")


@lru_cache(maxsize=256)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """A function's signature; needed for each block and slow to compute."""
    return inspect.signature(function)


@lru_cache(maxsize=256)
def _inputs(function: Callable[..., Any]) -> dict[str, bool]:
    """The keyword-only arguments of a function but `mask`, and whether each is required."""
    return {
        parameter.name: parameter.default is inspect.Parameter.empty
        for parameter in _signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "mask"
    }
