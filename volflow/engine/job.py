"""The data of the engine: jobs that go to workers, and plans that stay with the driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.core.geometry import NO_GAPS, Block, Box, Gaps, Resolution, Triple
from volflow.core.stage import HaloRegion, Layer, Phase, Record, Resolved, Stage


class Source(ABC):
    """An input of a step; its kinds are in `engine/phases/sources.py`."""

    @abstractmethod
    def read(
        self, run: str, phase: Phase, block: Block, region: HaloRegion, blank: bool
    ) -> np.ndarray | Record:
        """The part of the source that a block receives.

        Parameters
        ----------
        run : str
        phase : Phase
        block : Block
        region : HaloRegion
            The part of the halo that is read of a volume.
        blank : bool
            Whether the mask leaves nothing of the block: a volume is zeros then, without reading.
        """

    def is_empty(self, bounds: Box) -> bool:
        """Whether it is a volume of this run that is 0 everywhere in the bounds."""
        return False

    @property
    def foreign_volume(self) -> VolumeSpec | None:
        """The volume that is read, unless this run writes it."""
        return None

    def mirrored(self, whole: Box) -> Source:
        """The source in a trial of a part of `whole`: volumes of the run mirrored at its faces."""
        return self


@dataclass(frozen=True)
class Mask:
    """The voxels to work on: those where a volume is not zero, without bad sections.

    A voxel of the volume covers `zoom` voxels of the run along z, y, x. Along the axes where
    `rounded` is 1 its last plane is repeated once, to the end of the bounds. For a step that works
    without the closed sections, these are the `gaps`: its blocks have closed z.
    """

    spec: VolumeSpec | None = None
    zoom: Triple = (1, 1, 1)
    bad_sections: tuple[int, ...] = ()
    rounded: Triple = (0, 0, 0)
    gaps: Gaps = NO_GAPS


@dataclass(frozen=True)
class Target:
    """A volume that a step writes at one scale; the driver creates it."""

    spec: VolumeSpec
    layer: Layer
    bounds: Box
    resolution: Resolution
    chunk: Triple
    scale: int = 0

    @cached_property
    def scale_spec(self) -> VolumeSpec:
        """The address of the scale that is written."""
        return self.spec.model_copy(update={"level": self.scale})

    def bytes_of(self, box: Box | None = None) -> int:
        """Bytes of the volume, or of a box of it, before compression."""
        channels = self.layer.channels or 1
        return (box or self.bounds).size * np.dtype(self.layer.dtype).itemsize * channels


@dataclass(frozen=True)
class Job:
    """One phase of a step with every decision made; it is pickled and sent to the workers.

    `targets` are the volumes that the phase writes, by output. Markers are stored under
    `ledger/STEP/DIGEST/PHASE`, records under `records/STEP/DIGEST`.
    """

    run: str
    step: str
    digest: str
    stage: Stage
    phase: Phase
    sources: dict[str, Source] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    mask: Mask | None = None
    attempts: int = 1
    prefetch: bool = True
    """Whether the memory suffices to read the next block's inputs while a block is computed."""
    fence: str = ""
    """Token of the driver that handed the job out; empty: writes are not checked."""


@dataclass(frozen=True)
class PlannedStep:
    """A step, checked and ready: its jobs in order, and their expected costs.

    `content` is the digest of the step's output (stage, parameters, inputs); `digest` is that of
    its markers and also includes the block shape. `memory` is the expected peak of a worker in
    bytes, by the name of the phase.
    """

    name: str
    stage: Stage
    content: str
    digest: str
    jobs: tuple[Job, ...]
    targets: tuple[Target, ...]
    pool: str
    memory: dict[str, int]
    bytes_out: int
    bounds: Box
    """Bounds of the run; closed up for a step that works without the closed sections."""
    after: tuple[str, ...] = ()
    """Names of the steps whose outputs this one reads."""
    resolved: tuple[Resolved, ...] = ()
    """The parameters that were given in units, and their values in voxels."""

    @property
    def blocks(self) -> int:
        """Blocks of all phases together."""
        return sum(len(job.phase.grid) for job in self.jobs)


class Downsampled(NamedTuple):
    """An input that is read at coarser voxels.

    `given` is the text of the pipeline, `factors` are stored voxels per voxel, and `resolution` is
    the voxel size that is read, nanometres; all z y x.
    """

    volume: str
    given: str
    factors: Triple
    resolution: Resolution


@dataclass(frozen=True)
class Plan:
    """A pipeline with every decision made; nothing has been started or written."""

    pipeline: Pipeline
    """The pipeline, checked, with absolute paths."""
    bounds: Box
    """Voxels that the run covers."""
    resolution: Resolution
    """Side lengths of a voxel in nanometres, z y x."""
    steps: tuple[PlannedStep, ...]
    """All steps, in the order in which they run."""
    selected: tuple[str, ...] = ()
    """Names of the steps to run; empty: all."""
    search_path: tuple[str, ...] = ()
    """Folders from which the user's own stages are imported."""
    warnings: tuple[str, ...] = ()
    """Assumptions about the inputs that the user should know, each one sentence."""
    downsampled: tuple[Downsampled, ...] = ()
    """The inputs whose declaration has `downsample`."""

    @property
    def chosen(self) -> tuple[PlannedStep, ...]:
        """The steps to run, in order."""
        return tuple(s for s in self.steps if not self.selected or s.name in self.selected)

    def feeds(self, name: str) -> bool:
        """Whether one of the steps to run depends, directly or not, on this one."""
        needed, todo = set(), [name for step in self.chosen for name in step.after]
        while todo:
            writer = todo.pop()
            if writer not in needed:
                needed.add(writer)
                todo += self.step(writer).after
        return name in needed

    def step(self, name: str) -> PlannedStep:
        """The step of that name.

        Raises
        ------
        KeyError
            If there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        names = ", ".join(step.name for step in self.steps)
        raise KeyError(f"there is no step '{name}' (steps: {names})")
