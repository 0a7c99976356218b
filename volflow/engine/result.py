"""The outcome of a run: blocks done and failed, by step, and the results of steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from volflow.core.geometry import Triple
from volflow.engine.html_tables import Table, html_tables
from volflow.errors import VolflowError

if TYPE_CHECKING:
    from volflow.engine.run_volumes import RunVolumes


@dataclass(frozen=True)
class Failure:
    """A failed block and the reason."""

    step: str
    """Name of its step."""
    phase: str
    """Name of its phase."""
    index: Triple
    """Its place in the grid of the phase, z y x."""
    reason: str
    """exception, signal, exit, memory, timeout or storage."""
    error: str
    """The error as text."""
    traceback: str = ""
    """The end of its traceback; empty if there is none."""


@dataclass
class StepResult:
    """The outcome of a step: blocks of all its phases, `total` of them."""

    name: str
    """Name of the step."""
    total: int
    """Blocks of all phases."""
    done: int = 0
    """Blocks done, in this run or an earlier one."""
    already: int = 0
    """Blocks done by an earlier run; part of `done`."""
    seconds: float = 0.0
    """Wall time of the step in this run."""
    voxels: int = 0
    """Voxels of the volume that correspond to the blocks of all phases done in this run."""
    failures: list[Failure] = field(default_factory=list)
    """Blocks that failed in this run."""
    started: bool = False
    """Whether this run came to the step."""
    extent: int = 0
    """Voxels of the volume that correspond to all blocks."""
    seconds_before: float = 0.0
    """Work in the blocks done earlier, of all workers together, if some are left."""

    @property
    def left(self) -> int:
        """Blocks neither done nor failed."""
        return self.total - self.done - len(self.failures)

    @property
    def cells(self) -> tuple[str, ...]:
        """Name, blocks in total, done and failed, and seconds, as text."""
        counts = (self.total, self.done, len(self.failures))
        return (self.name, *(f"{number:,}" for number in counts), f"{self.seconds:.1f}")

    @property
    def ok(self) -> bool:
        """Whether every block is done."""
        return self.done == self.total


@dataclass
class RunResult:
    """The outcome of a run."""

    run: str
    """Address of the run."""
    steps: list[StepResult] = field(default_factory=list)
    """Outcomes of the steps, in order."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    """JSON results of the steps that have one, by step; may be long."""
    segments: dict[str, Any] = field(default_factory=dict, repr=False)
    """Number and sizes of the segments that the run wrote, as its report counts them: `layer`,
    `number`, `median`, `largest`, `unit`, `background`, `largest_share`, `mean_voxels`,
    `voxel_nm`, and `advice` where they can hardly be right; empty if it counts none."""
    unmet: list[str] = field(default_factory=list)
    """Requirements of the pipeline that results do not meet; every block may be done."""
    warnings: list[str] = field(default_factory=list)
    """Facts about the results of steps that the user should know, one sentence each."""
    interrupted: bool = False
    """Whether the run was ended before its last block."""
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
        """Outcome, steps, scores and volumes as short tables; notebooks show them."""
        outcome = "done" if self.ok else "interrupted" if self.interrupted else "not finished"
        heads = ("step", "blocks", "done", "failed", "seconds")
        tables: list[Table] = [(heads, [step.cells for step in self.steps])]
        numbers = self._numbers()
        if numbers:
            tables.append((("result of", "name", "value"), numbers))
        try:
            volumes = [
                (name, " x ".join(map(str, volume.shape)), str(volume.dtype))
                for name, volume in self.volumes.items()
            ]
        except VolflowError:  # a run whose folder is gone still has an outcome
            volumes = []
        if volumes:
            tables.append((("volume", "shape", "dtype"), volumes))
        return html_tables(f"run {self.run}: {outcome}", tables)

    def _numbers(self) -> list[tuple[str, str, str]]:
        """Step, name and value of the numbers among the results, without lists and tables."""
        return [
            (step, name, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
            for step, values in self.results.items()
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
