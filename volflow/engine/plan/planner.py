"""Step by step: digests, what is read and written, one job per pass; mistakes are noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Mistakes
from volflow.config.wiring import WiredStep, Wiring
from volflow.core.geometry import BlockGrid, Box, Triple, zyx
from volflow.core.stage import Columns, Grouping, Layer, Pass, Reduction, Stage
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
from volflow.engine.plan.inputs import Ground
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
    ground: Ground
    mistakes: Mistakes
    memory: int | None
    offline: bool = False
    made: dict[str, _Made] = field(default_factory=dict)

    def planned(self, step: WiredStep) -> PlannedStep:
        """Decide everything about a step whose writers are planned, noting mistakes."""
        bounds = self.ground.bounds
        grid = BlockGrid(bounds, step.block, step.stage.halo_on(bounds, step.block))
        wrong = step.stage.check(grid)
        layers = {name: self._input_layer(volume) for name, volume in step.inputs.items()}
        unfit = [
            *step.stage.check_inputs(layers, self.ground.resolution),
            *step.stage.check_tables(self._tables(step)),
        ]
        for text in [*wrong, *unfit]:
            word = text.replace(":", " ").partition(" ")[0]  # mostly the parameter's name
            parameter = (word,) if word in step.spec.with_ else ()
            path = ("steps", step.number, "with", *parameter)
            self.mistakes.add(path, f"step '{step.name}': {text}")
        self._check_inputs(step)
        sweeps = () if wrong else step.stage.passes(grid)
        targets = self._targets(step, sweeps)
        content = self._content(step)
        own = step_digest(content, step.block, self._layouts(step, targets))
        scale0 = {step.outputs[output]: t for (scale, output), t in targets.items() if scale == 0}
        written = {name: target.layer for name, target in scale0.items()}
        self.made[step.name] = _Made(step, content, own, written, scale0)
        traced = sum(self._nodes(name) for name in step.inputs.values()) * NODE_BYTES
        needs = {sweep.name: self._needed(step, sweep, targets) + traced for sweep in sweeps}
        if self.memory is not None:
            checks.check_memory(step, sweeps, needs, self.memory, self.mistakes)
        ahead = {sweep.name: needs[sweep.name] + _ahead(layers, sweep) for sweep in sweeps}
        room = {name: self.memory is None or ahead[name] <= self.memory for name in needs}
        return PlannedStep(
            step.name,
            step.stage,
            content,
            own,
            tuple(self._job(step, own, sweep, targets, room[sweep.name]) for sweep in sweeps),
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
        volume = self.ground.volumes.get(name)
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
                checks.check_layer(step, name, wanted, given, foreign, self.mistakes)
        for volume in filter(self._stored_blockwise, step.inputs.values()):
            writer = self.wiring.writers[volume][0]
            if writer.block != step.block:
                checks.tell_blockwise(step, volume, writer, self.mistakes)
                break  # one mistake, however many inputs

    def _stored_blockwise(self, name: str) -> bool:
        if name not in self.wiring.writers:
            return False
        writer, output = self.wiring.writers[name]
        declared = writer.declared(output)
        return isinstance(declared, Columns) or declared.blockwise

    def _nodes(self, name: str) -> int:
        """How many nodes a worker holds of what is read under this name."""
        source = self.ground.skeletons.get(name)
        return 0 if source is None else source.nodes

    def _content(self, step: WiredStep) -> str:
        inputs = {}
        for name, volume in step.inputs.items():
            writer = self._writer(volume)
            if writer is not None:
                inputs[name] = f"{writer.content}.{self.wiring.writers[volume][1]}"
            else:
                inputs[name] = self.ground.contents.get(volume, "")
        return step_content(step.stage, inputs, self.ground.bounds, self.ground.mask_content)

    # --- writing

    def _spec(self, name: str) -> VolumeSpec:
        """How a volume of this run is stored."""
        declared = self.pipeline.volumes.get(name, VolumeSpec())
        path = declared.path or f"precomputed://{self.pipeline.run}/{name}"
        return VolumeSpec(
            path=path, chunk=declared.chunk, shard=declared.shard, encoding=declared.encoding
        )

    def _targets(self, step: WiredStep, sweeps: Sequence[Pass]) -> dict[tuple[int, str], Target]:
        """The volumes that a step writes, by scale and output."""
        targets: dict[tuple[int, str], Target] = {}
        resolutions = {0: self.ground.resolution}
        for sweep in sweeps:
            if sweep.kind not in WRITING:
                continue
            fine, coarse = sweep.scales
            resolutions[coarse] = _times(resolutions[fine], sweep.zoom)
            for output, declared in step.stage.outputs.items():
                if isinstance(declared, Layer):
                    target = self._target(step, output, declared, sweep, resolutions[coarse])
                    targets[coarse, output] = target
        return targets

    def _target(
        self, step: WiredStep, output: str, declared: Layer, sweep: Pass, resolution: Resolution
    ) -> Target:
        name, scale = step.outputs[output], sweep.scales[1]
        spec, layer = self._spec(name), self._output_layer(step, declared)
        bounds = sweep.grid.bounds
        chunk = checks.chunk_of(spec.chunk, sweep.grid.shape, bounds)
        if scale == 0 and name in self.pipeline.volumes:
            volume = self.pipeline.volumes[name]
            checks.check_declared(name, volume, self.mistakes)
            checks.check_resolution(name, volume.resolution, resolution, self.mistakes)
        fits = checks.check_fit(step, name, spec, sweep.grid, chunk, self.mistakes)
        target = Target(spec, layer, bounds, resolution, chunk, scale)
        if scale == 0 and fits and not self.offline:
            checks.check_storable(step, name, target, self.mistakes)
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
        self, step: WiredStep, sweep: Pass, targets: Mapping[tuple[int, str], Target]
    ) -> int:
        """Bytes of a worker's process at the peak of the largest block of a pass."""
        if sweep.part is None:
            return _memory(step.stage, sweep, self.ground.bounds)
        chunks = [t.chunk for (scale, _), t in targets.items() if scale == sweep.scales[0]]
        for name in step.inputs.values():
            writer = self._writer(name)
            if not chunks and writer is not None and name in writer.targets:
                chunks.append(writer.targets[name].chunk)
        block = _largest(sweep)
        written = [t for (scale, _), t in targets.items() if scale == sweep.scales[1]]
        part = sweep.part_of(chunks[0]) if chunks else block
        shape = zyx(part).minimum(block)
        whole = sum(checks.bytes_of(target, Box((0, 0, 0), block)) for target in written)
        made = PROCESS + step.stage.memory(Box((0, 0, 0), shape).grow(sweep.grid.halo).shape)
        return made + 2 * whole  # as it is made, and as it is packed

    def _job(
        self,
        step: WiredStep,
        own: str,
        sweep: Pass,
        targets: dict[tuple[int, str], Target],
        read_ahead: bool,
    ) -> Job:
        writes = sweep.kind in WRITING
        outputs = step.stage.outputs if writes else {}
        return Job(
            self.pipeline.run,
            step.name,
            own,
            step.stage,
            sweep,
            {name: self._source(volume, sweep) for name, volume in step.inputs.items()},
            {o: t for (scale, o), t in targets.items() if writes and scale == sweep.scales[1]},
            {o: columns for o, columns in outputs.items() if isinstance(columns, Columns)},
            self.ground.mask,
            step.spec.attempts,
            read_ahead,
        )

    def _source(self, name: str, sweep: Pass) -> Source | RecordSource | SkeletonSource:
        if name in self.ground.skeletons:
            return self.ground.skeletons[name]
        if name not in self.wiring.writers:
            spec = self.pipeline.volumes[name]
            return Source(spec.model_copy(update={"level": spec.level + sweep.scales[0]}))
        writer, output = self.wiring.writers[name]
        if isinstance(writer.declared(output), Columns):
            made = self.made.get(writer.name)
            return RecordSource(writer.name, made.digest if made else "", output)
        return Source(self._spec(name).model_copy(update={"level": sweep.scales[0]}), own=True)

    def check_addresses(self) -> None:
        """No two volumes at one address, none where another is read or the run keeps its own."""
        run = _place(self.pipeline.run)
        kept = {run: "the run"} | {f"{run}/{name}": f"the run's {name}" for name in OF_THE_RUN}
        places = dict(kept)
        for name in (*self.ground.volumes, *self.ground.skeletons):
            places.setdefault(_place(self.pipeline.volumes[name].path), name)
        for name, (writer, output) in self.wiring.writers.items():
            if isinstance(writer.declared(output), Columns):
                continue
            other = places.setdefault(_place(self._spec(name).path), name)
            if other != name:
                declared = name in self.pipeline.volumes
                self.mistakes.add(
                    ("volumes", name, "path") if declared else ("steps", writer.number),
                    f"step '{writer.name}' would write '{name}' where '{other}' is: "
                    f"{self._spec(name).path}",
                )


def _memory(stage: Stage, sweep: Pass, bounds: Box) -> int:
    """Bytes of a worker's process at the peak of the largest block of a pass."""
    write = _largest(sweep)
    if sweep.kind in ("join", "split") and isinstance(stage, Reduction):
        return PROCESS + stage.pass_memory(sweep, write)
    if sweep.kind == "gather" and isinstance(stage, Grouping):
        return PROCESS + stage.node_memory(write)
    if sweep.kind == "group" and isinstance(stage, Grouping):
        return PROCESS + stage.group_memory(bounds)
    return PROCESS + stage.memory(Box((0, 0, 0), write).grow(sweep.grid.halo).shape)


def _ahead(inputs: Mapping[str, Layer | None], sweep: Pass) -> int:
    """Bytes of what the next block of a map reads, held while a block is computed."""
    if sweep.kind != "map" or sweep.part is not None:
        return 0
    voxels = Box((0, 0, 0), _largest(sweep)).grow(sweep.grid.halo).size
    found = [layer for layer in inputs.values() if layer is not None]
    return sum(np.dtype(la.dtype).itemsize * (la.channels or 1) * voxels for la in found)


def _largest(sweep: Pass) -> Triple:
    """The shape of the largest block of a pass."""
    sides = zip(sweep.grid.shape, sweep.grid.bounds.shape, strict=True)
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
