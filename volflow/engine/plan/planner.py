"""One planned step from one wired step: its digests, targets and jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from volflow.config import stage_answers
from volflow.config.problems import Checked, Problem
from volflow.config.wired_step import WiredStep
from volflow.core.geometry import BlockGrid, Box
from volflow.core.stage import Layer, Phase, Table
from volflow.engine.job import Job, PlannedStep, Source
from volflow.engine.phases.registry import kind_of
from volflow.engine.phases.sources import RecordSource, TableFile, TableOfStep, VolumeSource
from volflow.engine.plan.checks import (
    check_downsampling,
    check_layer,
    check_same_blocks,
    check_whole_table,
)
from volflow.engine.plan.digest import step_content, step_digest
from volflow.engine.plan.resources import check_memory
from volflow.engine.plan.state import PlanState, WrittenStep
from volflow.engine.plan.step_targets import Targets, layouts, step_targets
from volflow.io.downsampled_array import bytes_to_average
from volflow.io.skeletons.placed_nodes import NODE_BYTES

PROCESS_MEMORY = 256 << 20  # bytes before the first block: Python, numpy, numba; measured 230 MiB


def plan_step(
    state: PlanState,
    step: WiredStep,
    memory: int | None = None,
    offline: bool = False,
    whole: Box | None = None,
) -> Checked[PlannedStep | None]:
    """Make every decision about a step whose writers are planned; adds it to `state.written`.

    None if its stage, a user's own, raises or answers wrongly, which is a problem.

    Parameters
    ----------
    state : PlanState
    step : WiredStep
    memory : int, optional
        Bytes that a worker may use; None: not checked.
    offline : bool
        Whether to ask no store whether the volumes can be written.
    whole : Box, optional
        Bounds of the run, if this is a trial of a part of it; the stage checks its parameters
        there.
    """
    try:
        with stage_answers.stage_faults(step.stage):
            return (yield from _plan_step(state, step, memory, offline, whole))
    except stage_answers.StageFault as error:
        yield Problem(("steps", step.number, "use"), f"step '{step.name}': {error}")
        return None


def _plan_step(
    state: PlanState, step: WiredStep, memory: int | None, offline: bool, whole: Box | None
) -> Checked[PlannedStep]:
    bounds = state.bounds_of(step)
    step.block = stage_answers.block(step.stage, step.stage.block_on(bounds, step.block))
    halo = stage_answers.halo(step.stage, step.stage.halo_on(bounds, step.block))
    grid = BlockGrid(bounds, step.block, halo)
    stage_answers.memory(step.stage, step.stage.memory(grid[0].read.shape))
    layers = {name: state.input_layer(volume) for name, volume in step.inputs.items()}
    misfits = stage_answers.sentences(
        step.stage, "check", step.stage.check(replace(grid, whole=whole or bounds))
    )
    yield from _parameter_problems(step, misfits)
    if not step.incomplete:
        unfit = step.stage.check_inputs(layers, state.inputs.resolution)
        yield from _parameter_problems(
            step, stage_answers.sentences(step.stage, "check_inputs", unfit)
        )
        unfit = step.stage.check_tables(state.input_tables(step))
        yield from _parameter_problems(
            step, stage_answers.sentences(step.stage, "check_tables", unfit)
        )
    yield from _check_inputs(state, step)
    phases = () if misfits else stage_answers.phases(step.stage, step.stage.phases(grid))
    targets = yield from step_targets(state, step, phases, offline)
    content = _content(state, step)
    digest = step_digest(content, step.block, layouts(state, step, targets))
    scale0 = {step.outputs[output]: t for (scale, output), t in targets.items() if scale == 0}
    state.written[step.name] = WrittenStep(content, digest, scale0)
    jobs = [_job(state, step, digest, phase, targets) for phase in phases]
    needs = {job.phase.name: _memory(state, step, job, targets) for job in jobs}
    if memory is not None:
        yield from check_memory(step, phases, needs, memory)
    known = [layer for layer in layers.values() if layer is not None]
    jobs = [_with_prefetch(job, known, needs, memory) for job in jobs]
    stage_answers.require_picklable(step.stage, jobs)
    return PlannedStep(
        name=step.name,
        stage=step.stage,
        content=content,
        digest=digest,
        jobs=tuple(jobs),
        targets=tuple(targets.values()),
        pool=step.spec.pool or step.stage.pool,
        memory=needs,
        bytes_out=sum(target.bytes_of() for target in targets.values()),
        bounds=bounds,
        after=tuple(state.wiring.after(step)),
        resolved=step.resolved,
    )


def _parameter_problems(step: WiredStep, sentences: Iterable[str]) -> Checked[None]:
    for text in sentences:
        word = text.replace(":", " ").partition(" ")[0]  # mostly the parameter's name
        parameter = (word,) if word in step.spec.with_ else ()
        path = ("steps", step.number, "with", *parameter)
        yield Problem(path, f"step '{step.name}': {text}")


def _check_inputs(state: PlanState, step: WiredStep) -> Checked[None]:
    for name, volume in step.inputs.items():
        given, expected = state.input_layer(volume), step.stage.wants.get(name)
        if volume in state.inputs.volumes:
            spec = state.pipeline.volumes[volume]
            yield from check_downsampling(step, name, expected, spec)
        if expected is not None and expected.kind == "table" and state.is_own(volume):
            yield from check_whole_table(step, name, state.declared(volume))
        if expected is not None and given is not None:
            yield from check_layer(step, name, expected, given, not state.is_own(volume))
    for volume in filter(state.is_blockwise, step.inputs.values()):
        writer = state.wiring.writers[volume][0]
        problems = list(check_same_blocks(step, volume, writer, state.bounds_of(step)))
        yield from problems
        if problems:
            break  # one report, however many inputs


def _content(state: PlanState, step: WiredStep) -> str:
    inputs = {}
    for name, volume in step.inputs.items():
        writer = state.writer(volume)
        if writer is not None:
            inputs[name] = f"{writer.content}.{state.wiring.writers[volume][1]}"
        else:
            inputs[name] = state.inputs.contents.get(volume, "")
    return step_content(step.stage, inputs, state.bounds_of(step), state.inputs.mask_content)


def _job(state: PlanState, step: WiredStep, digest: str, phase: Phase, targets: Targets) -> Job:
    writes = kind_of(phase).writes_outputs
    sources = {name: _source(state, step, volume, phase) for name, volume in step.inputs.items()}
    tables = [isinstance(source, TableOfStep | TableFile) for source in sources.values()]
    return Job(
        run=state.pipeline.run,
        step=step.name,
        digest=digest,
        stage=step.stage,
        phase=phase,
        sources=sources,
        targets={
            output: target
            for (scale, output), target in targets.items()
            if writes and scale == phase.scales[1]
        },
        mask=None if tables and all(tables) else state.mask_of(step),  # rows are no voxels
        attempts=step.spec.attempts,
    )


def _source(state: PlanState, step: WiredStep, name: str, phase: Phase) -> Source:
    if name in state.inputs.skeletons:
        return state.inputs.skeletons[name]
    if name in state.inputs.tables:
        return state.inputs.tables[name]
    if not state.is_own(name):
        spec = state.pipeline.volumes[name]
        spec = spec.model_copy(update={"level": spec.level + phase.scales[0]})
        return VolumeSource(spec, gaps=state.gaps_of(step))
    if state.is_table(name):
        wired, output = state.wiring.writers[name]
        writer = state.writer(name)
        digest = writer.digest if writer else ""
        if isinstance(wired.declared(output), Table):
            return TableOfStep(wired.name, digest, wired.stage, state.bounds_of(wired))
        return RecordSource(wired.name, digest, output, step.stage.tables_in_halo)
    spec = state.stored_as(name).model_copy(update={"level": phase.scales[0]})
    return VolumeSource(spec, own=True)


def _memory(state: PlanState, step: WiredStep, job: Job, targets: Targets) -> int:
    """Peak bytes of a worker's process in the largest block of a job."""
    scale = job.phase.scales[0]
    chunks = [target.chunk for (written, _), target in targets.items() if written == scale]
    nodes = 0
    for name in step.inputs.values():
        writer = state.writer(name)
        if writer is not None and name in writer.targets:
            chunks.append(writer.targets[name].chunk)
        elif name in state.inputs.skeletons:
            nodes += state.inputs.skeletons[name].nodes
    block = kind_of(job.phase).memory(job, state.bounds_of(step), chunks[0] if chunks else None)
    block = stage_answers.memory(step.stage, block, f"memory of phase '{job.phase.name}'")
    averaged = _averaging_memory(state, step, job)
    return PROCESS_MEMORY + block + averaged + nodes * NODE_BYTES


def _averaging_memory(state: PlanState, step: WiredStep, job: Job) -> int:
    """Peak bytes of the stored voxels of inputs that are downsampled, read one after another."""
    read = step.stage.reads(job.phase)
    opened = [state.inputs.volumes.get(v) for name, v in step.inputs.items() if name in read]
    return max(
        (
            bytes_to_average(shape, volume.downsample, volume.dtype, volume.channels)
            for volume in opened
            if volume is not None
            for shape in kind_of(job.phase).read_shapes(job)
        ),
        default=0,
    )


def _with_prefetch(
    job: Job, inputs: Iterable[Layer], needs: dict[str, int], memory: int | None
) -> Job:
    """The job with prefetching if a worker has memory for it, which is added to `needs`."""
    name = job.phase.name
    needed = needs[name] + kind_of(job.phase).prefetch_memory(job, inputs)
    if memory is not None and needed > memory:
        return replace(job, prefetch=False)
    needs[name] = needed
    return job
