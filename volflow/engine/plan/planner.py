"""Step by step: digests, what is read and written, one job per pass; mistakes are noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Problems
from volflow.config.wiring import WiredStep, Wiring
from volflow.core.geometry import BlockGrid, Box, Triple, zyx
from volflow.core.stage import Columns, Grouping, Layer, Phase, Reduction, Stage
from volflow.engine.job import (
    Job,
    PlannedStep,
    RecordSource,
    Resolution,
    SkeletonSource,
    Source,
    Target,
)
from volflow.engine.plan import checks
from volflow.engine.plan.digest import layout, step_content, step_digest
from volflow.engine.plan.inputs import PlanInputs
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.skeletons.placed_nodes import NODE_BYTES

WRITING = ("map", "finish")
PROCESS = 256 << 20  # bytes of a worker before its first block: Python, numpy, numba; measured 230
OF_THE_RUN = ("ledger", "records", "results")  # folders that a volume must not lie on


@dataclass
class _Made:
    """What a planned step is to those that read it."""

    step: WiredStep
    content: str
    digest: str
    layers: dict[str, Layer] = field(default_factory=dict)
    """By volume."""
    targets: dict[str, Target] = field(default_factory=dict)
    """Scale 0, by volume."""


@dataclass
class Planner:
    """Plans the steps of a pipeline, writers first."""

    pipeline: Pipeline
    wiring: Wiring
    plan_inputs: PlanInputs
    problems: Problems
    memory: int | None
    offline: bool = False
    made: dict[str, _Made] = field(default_factory=dict)

    def planned(self, step: WiredStep) -> PlannedStep:
        """Decide everything about a step whose writers are planned, noting mistakes."""
        bounds = self.plan_inputs.bounds
        grid = BlockGrid(bounds, step.block, step.stage.halo_on(bounds, step.block))
        wrong = step.stage.check(grid)
        layers = {name: self._input_layer(volume) for name, volume in step.inputs.items()}
        unfit = [
            *step.stage.check_inputs(layers, self.plan_inputs.resolution),
            *step.stage.check_tables(self._tables(step)),
        ]
        for text in [*wrong, *unfit]:
            word = text.replace(":", " ").partition(" ")[0]  # mostly the parameter's name
            parameter = (word,) if word in step.spec.with_ else ()
            path = ("steps", step.number, "with", *parameter)
            self.problems.add(path, f"step '{step.name}': {text}")
        self._check_inputs(step)
        sweeps = () if wrong else step.stage.phases(grid)
        targets = self._targets(step, sweeps)
        content = self._content(step)
        own = step_digest(content, step.block, self._layouts(step, targets))
        scale0 = {step.outputs[output]: t for (scale, output), t in targets.items() if scale == 0}
        written = {name: target.layer for name, target in scale0.items()}
        self.made[step.name] = _Made(step, content, own, written, scale0)
        traced = sum(self._nodes(name) for name in step.inputs.values()) * NODE_BYTES
        needs = {phase.name: self._needed(step, phase, targets) + traced for phase in sweeps}
        if self.memory is not None:
            checks.check_memory(step, sweeps, needs, self.memory, self.problems)
        ahead = {phase.name: needs[phase.name] + _ahead(layers, phase) for phase in sweeps}
        room = {name: self.memory is None or ahead[name] <= self.memory for name in needs}
        return PlannedStep(
            step.name,
            step.stage,
            content,
            own,
            tuple(self._job(step, own, phase, targets, room[phase.name]) for phase in sweeps),
            tuple(targets.values()),
            step.spec.pool or step.stage.pool,
            {name: ahead[name] if room[name] else need for name, need in needs.items()},
            sum(checks.bytes_of(target) for target in targets.values()),
            tuple(self.wiring.after(step)),
        )

    # --- reading

    def _writer(self, name: str) -> _Made | None:
        """Who writes a volume or table; None for a foreign one, or a writer in a circle."""
        if name not in self.wiring.writers:
            return None
        return self.made.get(self.wiring.writers[name][0].name)

    def _input_layer(self, name: str) -> Layer | None:
        """What is known of a volume that is read."""
        writer = self._writer(name)
        if writer is not None:
            return writer.layers.get(name)
        volume = self.plan_inputs.volumes.get(name)
        return None if volume is None else Layer(str(volume.dtype), volume.channels)

    def _tables(self, step: WiredStep) -> dict[str, Columns]:
        """The tables that a step reads."""
        found = {}
        for name, source in step.inputs.items():
            if source in self.wiring.writers:
                writer, output = self.wiring.writers[source]
                declared = writer.declared(output)
                if isinstance(declared, Columns):
                    found[name] = declared
        return found

    def _check_inputs(self, step: WiredStep) -> None:
        for name, volume in step.inputs.items():
            given, wanted = self._input_layer(volume), step.stage.wants.get(name)
            foreign = volume not in self.wiring.writers
            if wanted is not None and given is not None:
                checks.check_layer(step, name, wanted, given, foreign, self.problems)
        for volume in filter(self._stored_blockwise, step.inputs.values()):
            writer = self.wiring.writers[volume][0]
            if writer.block != step.block:
                checks.tell_blockwise(step, volume, writer, self.problems)
                break  # one mistake, however many inputs

    def _stored_blockwise(self, name: str) -> bool:
        if name not in self.wiring.writers:
            return False
        writer, output = self.wiring.writers[name]
        declared = writer.declared(output)
        return isinstance(declared, Columns) or declared.blockwise

    def _nodes(self, name: str) -> int:
        """How many nodes a worker holds of what is read under this name."""
        source = self.plan_inputs.skeletons.get(name)
        return 0 if source is None else source.nodes

    def _content(self, step: WiredStep) -> str:
        inputs = {}
        for name, volume in step.inputs.items():
            writer = self._writer(volume)
            if writer is not None:
                inputs[name] = f"{writer.content}.{self.wiring.writers[volume][1]}"
            else:
                inputs[name] = self.plan_inputs.contents.get(volume, "")
        return step_content(
            step.stage, inputs, self.plan_inputs.bounds, self.plan_inputs.mask_content
        )

    # --- writing

    def _spec(self, name: str) -> VolumeSpec:
        """How a volume of this run is stored."""
        declared = self.pipeline.volumes.get(name, VolumeSpec())
        path = declared.path or f"precomputed://{self.pipeline.run}/{name}"
        return VolumeSpec(
            path=path, chunk=declared.chunk, shard=declared.shard, encoding=declared.encoding
        )

    def _targets(self, step: WiredStep, sweeps: Sequence[Phase]) -> dict[tuple[int, str], Target]:
        """The volumes that a step writes, by scale and output."""
        targets: dict[tuple[int, str], Target] = {}
        resolutions = {0: self.plan_inputs.resolution}
        for phase in sweeps:
            if phase.kind not in WRITING:
                continue
            fine, coarse = phase.scales
            resolutions[coarse] = _times(resolutions[fine], phase.zoom)
            for output, declared in step.stage.outputs.items():
                if isinstance(declared, Layer):
                    target = self._target(step, output, declared, phase, resolutions[coarse])
                    targets[coarse, output] = target
        return targets

    def _target(
        self, step: WiredStep, output: str, declared: Layer, phase: Phase, resolution: Resolution
    ) -> Target:
        name, scale = step.outputs[output], phase.scales[1]
        spec, layer = self._spec(name), self._output_layer(step, declared)
        bounds = phase.grid.bounds
        chunk = checks.chunk_of(spec.chunk, phase.grid.shape, bounds)
        if scale == 0 and name in self.pipeline.volumes:
            volume = self.pipeline.volumes[name]
            checks.check_declared(name, volume, self.problems)
            checks.check_resolution(name, volume.resolution, resolution, self.problems)
        fits = checks.check_fit(step, name, spec, phase.grid, chunk, self.problems)
        target = Target(spec, layer, bounds, resolution, chunk, scale)
        if scale == 0 and fits and not self.offline:
            checks.check_storable(step, name, target, self.problems)
        return target

    def _output_layer(self, step: WiredStep, declared: Layer) -> Layer:
        """The declared layer; what it leaves open is as in the first volume that is read."""
        if declared.dtype and declared.channels is not None:
            return declared
        given = next(filter(None, map(self._input_layer, step.inputs.values())), Layer("uint8", 0))
        channels = given.channels if declared.channels is None else declared.channels
        return Layer(
            declared.dtype or given.dtype, channels or 0, declared.kind, declared.blockwise
        )

    def _layouts(self, step: WiredStep, targets: dict[tuple[int, str], Target]) -> list[str]:
        """How all that a step writes is stored; a pyramid's scales lie with scale 0."""
        found = []
        for (_, output), target in targets.items():
            name = step.outputs[output]
            placed = bool(self.pipeline.volumes.get(name, VolumeSpec()).path)
            found.append(layout(name, target, placed))
            writer = self._writer(name)
            if writer is not None and name in writer.targets:
                found.append(layout(name, writer.targets[name], placed))
        return found

    # --- jobs

    def _needed(
        self, step: WiredStep, phase: Phase, targets: Mapping[tuple[int, str], Target]
    ) -> int:
        """Bytes of a worker's process at the peak of the largest block of a pass."""
        if phase.part is None:
            return _memory(step.stage, phase, self.plan_inputs.bounds)
        chunks = [t.chunk for (scale, _), t in targets.items() if scale == phase.scales[0]]
        for name in step.inputs.values():
            writer = self._writer(name)
            if not chunks and writer is not None and name in writer.targets:
                chunks.append(writer.targets[name].chunk)
        block = _largest(phase)
        written = [t for (scale, _), t in targets.items() if scale == phase.scales[1]]
        part = phase.part_of(chunks[0]) if chunks else block
        shape = zyx(part).minimum(block)
        whole = sum(checks.bytes_of(target, Box((0, 0, 0), block)) for target in written)
        made = PROCESS + step.stage.memory(Box((0, 0, 0), shape).grow(phase.grid.halo).shape)
        return made + 2 * whole  # as it is made, and as it is packed

    def _job(
        self,
        step: WiredStep,
        own: str,
        phase: Phase,
        targets: dict[tuple[int, str], Target],
        prefetch: bool,
    ) -> Job:
        writes = phase.kind in WRITING
        outputs = step.stage.outputs if writes else {}
        return Job(
            self.pipeline.run,
            step.name,
            own,
            step.stage,
            phase,
            {name: self._source(volume, phase) for name, volume in step.inputs.items()},
            {o: t for (scale, o), t in targets.items() if writes and scale == phase.scales[1]},
            {o: columns for o, columns in outputs.items() if isinstance(columns, Columns)},
            self.plan_inputs.mask,
            step.spec.attempts,
            prefetch,
        )

    def _source(self, name: str, phase: Phase) -> Source | RecordSource | SkeletonSource:
        if name in self.plan_inputs.skeletons:
            return self.plan_inputs.skeletons[name]
        if name not in self.wiring.writers:
            spec = self.pipeline.volumes[name]
            return Source(spec.model_copy(update={"level": spec.level + phase.scales[0]}))
        writer, output = self.wiring.writers[name]
        if isinstance(writer.declared(output), Columns):
            made = self.made.get(writer.name)
            return RecordSource(writer.name, made.digest if made else "", output)
        return Source(self._spec(name).model_copy(update={"level": phase.scales[0]}), own=True)

    def check_addresses(self) -> None:
        """No two volumes at one address, none where another is read or the run keeps its own."""
        run = _place(self.pipeline.run)
        kept = {run: "the run"} | {f"{run}/{name}": f"the run's {name}" for name in OF_THE_RUN}
        places = dict(kept)
        for name in (*self.plan_inputs.volumes, *self.plan_inputs.skeletons):
            places.setdefault(_place(self.pipeline.volumes[name].path), name)
        for name, (writer, output) in self.wiring.writers.items():
            if isinstance(writer.declared(output), Columns):
                continue
            other = places.setdefault(_place(self._spec(name).path), name)
            if other != name:
                declared = name in self.pipeline.volumes
                self.problems.add(
                    ("volumes", name, "path") if declared else ("steps", writer.number),
                    f"step '{writer.name}' would write '{name}' where '{other}' is: "
                    f"{self._spec(name).path}",
                )


def _memory(stage: Stage, phase: Phase, bounds: Box) -> int:
    """Bytes of a worker's process at the peak of the largest block of a pass."""
    write = _largest(phase)
    if phase.kind in ("join", "split") and isinstance(stage, Reduction):
        return PROCESS + stage.phase_memory(phase, write)
    if phase.kind == "gather" and isinstance(stage, Grouping):
        return PROCESS + stage.node_memory(write)
    if phase.kind == "group" and isinstance(stage, Grouping):
        return PROCESS + stage.group_memory(bounds)
    return PROCESS + stage.memory(Box((0, 0, 0), write).grow(phase.grid.halo).shape)


def _ahead(inputs: Mapping[str, Layer | None], phase: Phase) -> int:
    """Bytes of what the next block of a map reads, held while a block is computed."""
    if phase.kind != "map" or phase.part is not None:
        return 0
    voxels = Box((0, 0, 0), _largest(phase)).grow(phase.grid.halo).size
    found = [layer for layer in inputs.values() if layer is not None]
    return sum(np.dtype(la.dtype).itemsize * (la.channels or 1) * voxels for la in found)


def _largest(phase: Phase) -> Triple:
    """The shape of the largest block of a pass."""
    sides = zip(phase.grid.shape, phase.grid.bounds.shape, strict=True)
    return zyx([min(side, extent) for side, extent in sides])


def _times(resolution: Resolution, zoom: Triple) -> Resolution:
    z, y, x = (nm * n for nm, n in zip(resolution, zoom, strict=True))
    return (z, y, x)


def _place(path: str) -> str:
    """An address without its format, to compare places."""
    try:
        return Address.parse(path).location
    except StorageError:
        return path
