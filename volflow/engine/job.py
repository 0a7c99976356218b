"""The data of the engine: jobs that go to workers, and plans that stay with the driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.core.geometry import Block, Box, Triple
from volflow.core.stage import HaloRegion, Layer, Phase, Record, Stage

if TYPE_CHECKING:
    from volflow.engine.run_volumes import RunVolumes

Resolution = tuple[float, float, float]


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

    A voxel of the volume covers `zoom` voxels of the run along z, y, x.
    """

    spec: VolumeSpec | None = None
    zoom: Triple = (1, 1, 1)
    bad_sections: tuple[int, ...] = ()


@dataclass(frozen=True)
class Target:
    """A volume that a step writes at one scale; the driver creates it."""

    spec: VolumeSpec
    layer: Layer
    bounds: Box
    resolution: Resolution
    chunk: Triple
    scale: int = 0

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


@dataclass(frozen=True)
class PlannedStep:
    """A step, checked and ready: its jobs in order, and what they will cost.

    `content` is the digest of what the step's output *is* (stage, parameters, inputs), `digest`
    that of its markers, which also holds the block shape. `memory` is the estimated peak of a
    worker in bytes, by pass name.
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
    after: tuple[str, ...] = ()
    """Names of the steps whose outputs this one reads."""

    @property
    def blocks(self) -> int:
        """Blocks of all passes together."""
        return sum(len(job.phase.grid) for job in self.jobs)


@dataclass(frozen=True)
class Plan:
    """A pipeline with every decision made; nothing has been started or written."""

    pipeline: Pipeline
    bounds: Box
    resolution: Resolution
    steps: tuple[PlannedStep, ...]
    selected: tuple[str, ...] = ()
    """Names of the steps to be run now; empty: all."""
    search_path: tuple[str, ...] = ()
    """Folders where the user's own stages are imported from."""

    @property
    def chosen(self) -> tuple[PlannedStep, ...]:
        """The steps to be run now, in order."""
        return tuple(s for s in self.steps if not self.selected or s.name in self.selected)

    def feeds(self, name: str) -> bool:
        """Whether a step to be run now reads, directly or not, what this one writes."""
        wanted, todo = set(), [name for step in self.chosen for name in step.after]
        while todo:
            needed = todo.pop()
            if needed not in wanted:
                wanted.add(needed)
                todo += self.step(needed).after
        return name in wanted

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


@dataclass(frozen=True)
class Failure:
    """A block that did not finish, why, and since which attempt."""

    step: str
    phase: str
    index: Triple
    reason: str
    """exception, signal, exit, memory, timeout or storage."""
    error: str
    traceback: str = ""


@dataclass
class StepResult:
    """What became of a step: blocks of all its passes, which add up to `total`."""

    name: str
    total: int
    done: int = 0
    already: int = 0
    """Blocks that an earlier run had done; part of `done`."""
    seconds: float = 0.0
    voxels: int = 0
    """Voxels of the volume that correspond to the blocks of all passes done in this run."""
    failures: list[Failure] = field(default_factory=list)
    started: bool = False

    @property
    def left(self) -> int:
        """Blocks neither done nor failed."""
        return self.total - self.done - len(self.failures)

    @property
    def ok(self) -> bool:
        """Whether every block is done."""
        return self.done == self.total


@dataclass
class RunResult:
    """What became of a run."""

    run: str
    steps: list[StepResult] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """JSON results of the steps that have one, by step; they can be long."""
    unmet: list[str] = field(default_factory=list)
    """What the pipeline requires of results and they do not give; every block may be done."""
    interrupted: bool = False
    stalled: str = ""
    """Why the watchdog ended the run, which counts as interrupted; empty if it did not."""

    @property
    def ok(self) -> bool:
        """Whether every block of every step is done."""
        return not self.interrupted and all(step.ok for step in self.steps)

    @property
    def failures(self) -> list[Failure]:
        """All failed blocks."""
        return [failure for step in self.steps for failure in step.failures]

    @cached_property
    def volumes(self) -> RunVolumes:
        """Volumes of the run by name, opened when first read: `volumes["segmentation"][0:64]`."""
        from volflow.engine.run_volumes import RunVolumes

        return RunVolumes(self.run)

    def _repr_html_(self) -> str:
        """The outcome as a short table; notebooks show it."""
        from volflow.engine.result_html import result_html

        return result_html(self)
