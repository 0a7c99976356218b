"""The interface of a kind of phase: how a block is run, and what it costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from volflow.config import stage_answers
from volflow.core.geometry import Block, Box, Triple, Zyx
from volflow.core.stage import Layer, Phase
from volflow.engine.job import Job


class BlockInputs(NamedTuple):
    """The mask over a block and its inputs by name; `inputs` is None if the mask is empty."""

    mask: np.ndarray | None
    inputs: dict[str, Any] | None


class PhaseKind(ABC):
    """A kind of phase. Objects have no state: everything about a block is in its job.

    Attributes
    ----------
    writes_outputs : bool
        Whether it writes the step's volumes and tables.
    block_by_block : bool
        Whether its grid is that of the step's blocks; False for nodes and partitions.
    root_settles : bool
        Whether its root has work that other nodes pass on. A trial then shows it smaller bounds
        and does not time it.
    """

    writes_outputs: ClassVar[bool] = False
    block_by_block: ClassVar[bool] = True
    root_settles: ClassVar[bool] = False

    @abstractmethod
    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        """Run one block and write its outputs.

        Parameters
        ----------
        job : Job
        block : Block
        read : callable
            Returns the inputs of the block, perhaps read in advance; for maps.

        Returns
        -------
        dict
            Costs: `voxels`, `empty` (1 if the mask left nothing to do) and what the kind adds.
        """

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        """Peak bytes of the largest block of a job, beyond those of the process itself.

        Parameters
        ----------
        job : Job
        bounds : Box
            Bounds of the run.
        source_chunk : (int, int, int), optional
            Chunk of the volume that is read.
        """
        return job.stage.memory(_largest_read(job))

    def read_shapes(self, job: Job) -> list[Zyx]:
        """Shapes of the boxes that blocks read from volumes, the largest among them."""
        return [_largest_read(job)] if self.block_by_block else []

    def prefetch_memory(self, job: Job, inputs: Iterable[Layer]) -> int:
        """Bytes of the next block's inputs, read while a block is computed."""
        return 0

    def effort(self, job: Job, bounds: Box, whole: Box) -> float:
        """The quantity that the time of a job grows with.

        Parameters
        ----------
        job : Job
        bounds : Box
            Bounds of the run, or of the trial.
        whole : Box
            Bounds of the run that the blocks belong to.

        Raises
        ------
        StageFault
            If the stage answers with anything but a finite number from 0 on.
        """
        return stage_answers.effort(job.stage, job.stage.effort(job.phase.grid, whole))

    def storage_effort(self, job: Job, bounds: Box, whole: Box) -> float:
        """The quantity that the bytes stored by a job grow with; see `effort`."""
        return float(job.phase.grid.bounds.size)

    def memory_advice(self, phase: Phase, block: Triple) -> tuple[str, str]:
        """A description of the largest block of a phase, and what makes it smaller."""
        return f"a block of {list(block)}", "take smaller blocks"

    def result(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """The JSON result of a finished step whose last job is of this kind; empty: none."""
        return {}


def _largest_read(job: Job) -> Zyx:
    return Box((0, 0, 0), largest_block(job.phase)).grow(job.phase.grid.halo).shape


def largest_block(phase: Phase) -> Zyx:
    """The shape of the largest block of a phase."""
    return phase.grid.shape.minimum(phase.grid.bounds.shape)
