"""Step by step: digests, what is read and written, one job per pass; mistakes are noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from volflow.config.pipeline import Pipeline, VolumeSpec
from volflow.config.problems import Problems
from volflow.config.wiring import WiredStep, Wiring
from volflow.core.geometry import BlockGrid, Triple
from volflow.core.stage import Columns, Layer, Phase
from volflow.engine.job import Job, PlannedStep, Resolution, Source, Target
from volflow.engine.phases.registry import kind_of
from volflow.engine.phases.sources import RecordSource, VolumeSource
from volflow.engine.plan import checks
from volflow.engine.plan.digest import layout, step_content, step_digest
from volflow.engine.plan.inputs import PlanInputs
from volflow.errors import StorageError
from volflow.io.address import Address
from volflow.io.skeletons.placed_nodes import NODE_BYTES

PROCESS_MEMORY = 256 << 20  # bytes before the first block: Python, numpy, numba; measured 230 MiB
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
        jobs = [self._job(step, own, phase, targets) for phase in sweeps]
        skeletons = sum(self._nodes(name) for name in step.inputs.values()) * NODE_BYTES
        memory = {job.phase.name: skeletons + self._memory(step, job, targets) for job in jobs}
        if self.memory is not None:
            checks.check_memory(step, sweeps, memory, self.memory, self.problems)
        known = [layer for layer in layers.values() if layer is not None]
        jobs = [self._prefetching(job, known, memory) for job in jobs]
        return PlannedStep(
            step.name,
            step.stage,
            content,
            own,
            tuple(jobs),
            tuple(targets.values()),
            step.spec.pool or step.stage.pool,
            memory,
            sum(target.bytes_of() for target in targets.values()),
            tuple(self.wiring.after(step)),
        )

    def _prefetching(self, job: Job, inputs: Iterable[Layer], memory: dict[str, int]) -> Job:
        """The job, reading in advance if a worker has memory for that, which is then counted."""
        name = job.phase.name
        needed = memory[name] + kind_of(job.phase).prefetch_memory(job, inputs)
        if self.memory is not None and needed > self.memory:
            return replace(job, prefetch=False)
        memory[name] = needed
        return job

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
            if not kind_of(phase).writes_outputs:
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

    def _memory(self, step: WiredStep, job: Job, targets: dict[tuple[int, str], Target]) -> int:
        """Peak bytes of a worker's process in the largest block of a job."""
        scale = job.phase.scales[0]
        chunks = [target.chunk for (written, _), target in targets.items() if written == scale]
        for name in step.inputs.values():
            writer = self._writer(name)
            if writer is not None and name in writer.targets:
                chunks.append(writer.targets[name].chunk)
        source_chunk = chunks[0] if chunks else None
        block = kind_of(job.phase).memory(job, self.plan_inputs.bounds, source_chunk)
        return PROCESS_MEMORY + block

    def _job(
        self, step: WiredStep, own: str, phase: Phase, targets: dict[tuple[int, str], Target]
    ) -> Job:
        writes = kind_of(phase).writes_outputs
        return Job(
            run=self.pipeline.run,
            step=step.name,
            digest=own,
            stage=step.stage,
            phase=phase,
            sources={name: self._source(volume, phase) for name, volume in step.inputs.items()},
            targets={
                output: target
                for (scale, output), target in targets.items()
                if writes and scale == phase.scales[1]
            },
            mask=self.plan_inputs.mask,
            attempts=step.spec.attempts,
        )

    def _source(self, name: str, phase: Phase) -> Source:
        if name in self.plan_inputs.skeletons:
            return self.plan_inputs.skeletons[name]
        if name not in self.wiring.writers:
            spec = self.pipeline.volumes[name]
            level = spec.level + phase.scales[0]
            return VolumeSource(spec.model_copy(update={"level": level}))
        writer, output = self.wiring.writers[name]
        if isinstance(writer.declared(output), Columns):
            made = self.made.get(writer.name)
            return RecordSource(writer.name, made.digest if made else "", output)
        spec = self._spec(name).model_copy(update={"level": phase.scales[0]})
        return VolumeSource(spec, own=True)

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


def _times(resolution: Resolution, zoom: Triple) -> Resolution:
    z, y, x = (nm * n for nm, n in zip(resolution, zoom, strict=True))
    return (z, y, x)


def _place(path: str) -> str:
    """An address without its format, to compare places."""
    try:
        return Address.parse(path).location
    except StorageError:
        return path
