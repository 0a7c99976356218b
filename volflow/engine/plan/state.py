"""The state of planning: the pipeline, its open inputs, and the steps planned so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from volflow.config.closing import USE as PUT_BACK
from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.wired_step import WiredStep
from volflow.config.wiring import Wiring
from volflow.core.geometry import NO_GAPS, Box, Gaps
from volflow.core.stage import Columns, ForeignLayer, Layer, Table
from volflow.engine.job import Mask, Target
from volflow.engine.plan.inputs import PlanInputs


@dataclass(frozen=True)
class WrittenStep:
    """The part of a planned step that its readers use."""

    content: str
    digest: str
    targets: dict[str, Target]
    """Scale 0, by volume."""


@dataclass(frozen=True)
class PlanState:
    """A pipeline during planning; `written` holds the steps planned so far, by name."""

    pipeline: Pipeline
    wiring: Wiring
    inputs: PlanInputs
    written: dict[str, WrittenStep] = field(default_factory=dict)

    def gaps_of(self, step: WiredStep) -> Gaps:
        """The sections that a step works without."""
        return self.inputs.gaps if step.closed else NO_GAPS

    def bounds_of(self, step: WiredStep) -> Box:
        """The bounds of a step, closed up if it works without the closed sections."""
        return self.gaps_of(step).close(self.inputs.bounds)

    def mask_of(self, step: WiredStep) -> Mask | None:
        """The mask of a step; none for one that puts back what was masked before."""
        mask = self.inputs.mask
        if mask is None or step.spec.use == PUT_BACK:
            return None
        return replace(mask, gaps=self.gaps_of(step))

    def is_own(self, name: str) -> bool:
        """Whether a step of the pipeline writes this volume or table."""
        return name in self.wiring.writers

    def is_table(self, name: str) -> bool:
        """Whether a step of the pipeline writes this as a table."""
        return self.is_own(name) and isinstance(self.declared(name), Columns)

    def is_blockwise(self, name: str) -> bool:
        """Whether this is stored block by block, so that its readers need the same blocks."""
        if not self.is_own(name):
            return False
        declared = self.declared(name)
        if isinstance(declared, Columns):
            return not isinstance(declared, Table)
        return declared.blockwise

    def declared(self, name: str) -> Layer | Columns:
        """The declaration of an output of a step of the pipeline."""
        writer, output = self.wiring.writers[name]
        return writer.declared(output)

    def writer(self, name: str) -> WrittenStep | None:
        """The planned step that writes this; None for a foreign volume, or in a cycle of steps."""
        return self.written.get(self.wiring.writers[name][0].name) if self.is_own(name) else None

    def input_layer(self, name: str) -> Layer | None:
        """The dtype and channels of a volume; None for a table, or if unknown."""
        writer = self.writer(name)
        if writer is not None:
            return writer.targets[name].layer if name in writer.targets else None
        volume = self.inputs.volumes.get(name)
        if volume is None:
            return None
        return ForeignLayer(
            str(volume.dtype), volume.channels, volume=name, downsample=volume.downsample
        )

    def input_tables(self, step: WiredStep) -> dict[str, Columns]:
        """The tables that a step reads, by input."""
        declared: dict[str, Layer | Columns] = {}
        for name, source in step.inputs.items():
            if self.is_own(source):
                declared[name] = self.declared(source)
            elif source in self.inputs.tables:
                declared[name] = self.inputs.tables[source].columns
        return {name: each for name, each in declared.items() if isinstance(each, Columns)}

    def stored_as(self, name: str) -> VolumeSpec:
        """The address and format of a volume that this run writes."""
        declared = self.pipeline.volumes.get(name, VolumeSpec())
        path = declared.path or f"precomputed://{self.pipeline.run}/{name}"
        return VolumeSpec(
            path=path, chunk=declared.chunk, shard=declared.shard, encoding=declared.encoding
        )
