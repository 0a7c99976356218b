"""The outcome of a run: blocks done and failed, by step, and the results of steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from volflow.core.geometry import Triple

if TYPE_CHECKING:
    from volflow.engine.run_volumes import RunVolumes


@dataclass(frozen=True)
class Failure:
    """A failed block and the reason."""

    step: str
    phase: str
    index: Triple
    reason: str
    """exception, signal, exit, memory, timeout or storage."""
    error: str
    traceback: str = ""


@dataclass
class StepResult:
    """The outcome of a step: blocks of all its phases, `total` of them."""

    name: str
    total: int
    done: int = 0
    already: int = 0
    """Blocks done by an earlier run; part of `done`."""
    seconds: float = 0.0
    voxels: int = 0
    """Voxels of the volume that correspond to the blocks of all phases done in this run."""
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
    """The outcome of a run."""

    run: str
    steps: list[StepResult] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """JSON results of the steps that have one, by step; may be long."""
    unmet: list[str] = field(default_factory=list)
    """Requirements of the pipeline that results do not meet; every block may be done."""
    interrupted: bool = False
    stalled: str = ""
    """The reason why the watchdog ended the run, which counts as interrupted; empty: it did not."""

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
