"""The volumes that a step writes, scale by scale."""

from __future__ import annotations

from collections.abc import Sequence

from volflow.config.pipeline import VolumeSpec
from volflow.config.problems import Checked
from volflow.config.wired_step import WiredStep
from volflow.core.geometry import Resolution, Triple
from volflow.core.stage import Layer, Phase
from volflow.engine.job import Target
from volflow.engine.phases.registry import kind_of
from volflow.engine.plan.checks import check_declared, check_resolution, check_storable
from volflow.engine.plan.chunks import check_fit, chunk_of
from volflow.engine.plan.digest import layout
from volflow.engine.plan.state import PlanState

Targets = dict[tuple[int, str], Target]
"""By scale and output."""


def step_targets(
    state: PlanState, step: WiredStep, phases: Sequence[Phase], offline: bool
) -> Checked[Targets]:
    """The volumes that a step writes; with `offline`, without asking their stores."""
    targets: Targets = {}
    resolutions = {0: state.inputs.resolution}
    for phase in phases:
        if not kind_of(phase).writes_outputs:
            continue
        fine, coarse = phase.scales
        resolutions[coarse] = _scaled(resolutions[fine], phase.zoom)
        for output, declared in step.stage.outputs.items():
            if isinstance(declared, Layer):
                target = _target(state, step, output, declared, phase, resolutions[coarse])
                yield from _check_target(state, step, output, target, phase, offline)
                targets[coarse, output] = target
    return targets


def _target(
    state: PlanState,
    step: WiredStep,
    output: str,
    declared: Layer,
    phase: Phase,
    resolution: Resolution,
) -> Target:
    spec, bounds = state.stored_as(step.outputs[output]), phase.grid.bounds
    return Target(
        spec=spec,
        layer=_output_layer(state, step, declared),
        bounds=bounds,
        resolution=resolution,
        chunk=chunk_of(spec.chunk, phase.grid.shape, bounds),
        scale=phase.scales[1],
    )


def _check_target(
    state: PlanState, step: WiredStep, output: str, target: Target, phase: Phase, offline: bool
) -> Checked[None]:
    name, pipeline = step.outputs[output], state.pipeline
    if target.scale == 0 and name in pipeline.volumes:
        volume = pipeline.volumes[name]
        yield from check_declared(name, volume)
        yield from check_resolution(name, volume.resolution, target.resolution)
    misfits = list(check_fit(step, name, target.spec, phase.grid, target.chunk))
    yield from misfits
    if target.scale == 0 and not misfits and not offline:
        yield from check_storable(pipeline, step, name, target)


def _output_layer(state: PlanState, step: WiredStep, declared: Layer) -> Layer:
    """The declared layer, completed by the first input volume."""
    if declared.dtype and declared.channels is not None:
        return declared
    given = next(filter(None, map(state.input_layer, step.inputs.values())), Layer("uint8", 0))
    channels = given.channels if declared.channels is None else declared.channels
    return Layer(declared.dtype or given.dtype, channels or 0, declared.kind, declared.blockwise)


def layouts(state: PlanState, step: WiredStep, targets: Targets) -> list[str]:
    """Digests of how the volumes of a step are stored; a pyramid is stored with its scale 0."""
    digests = []
    for (_, output), target in targets.items():
        name = step.outputs[output]
        placed = bool(state.pipeline.volumes.get(name, VolumeSpec()).path)
        digests.append(layout(name, target, placed))
        writer = state.writer(name)
        if writer is not None and name in writer.targets:
            digests.append(layout(name, writer.targets[name], placed))
    return digests


def _scaled(resolution: Resolution, zoom: Triple) -> Resolution:
    z, y, x = (nm * n for nm, n in zip(resolution, zoom, strict=True))
    return (z, y, x)
