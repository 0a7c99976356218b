"""A map: each block alone, from the stage's inputs to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from volflow.core.geometry import Block, Box, Triple, zyx
from volflow.core.stage import Columns, Layer
from volflow.engine.job import Job
from volflow.engine.phases.inputs import first_volume, read_inputs
from volflow.engine.phases.kind import BlockInputs, PhaseKind, largest_block
from volflow.engine.phases.outputs import over_write_box, write_outputs
from volflow.io.formats.stored_array import tiles


class Map(PhaseKind):
    """Each block alone: read the inputs, call `run`, write the outputs."""

    writes_outputs = True

    def run(self, job: Job, block: Block, read: Callable[[], BlockInputs]) -> dict[str, int]:
        if job.phase.part is not None:
            write_outputs(job, block, _outputs_in_parts(job, block), None)
            return {"voxels": block.write.size, "empty": 0}
        mask, inputs = read()
        if inputs is None:
            write_outputs(job, block, _empty_outputs(job, block), None)
            return {"voxels": block.write.size, "empty": 1}
        if job.stage.takes_mask():
            inputs["mask"], mask = mask, None
        write_outputs(job, block, job.stage.run(block, **inputs), mask)
        return {"voxels": block.write.size, "empty": 0}

    def memory(self, job: Job, bounds: Box, source_chunk: Triple | None) -> int:
        phase = job.phase
        if phase.part is None:
            return super().memory(job, bounds, source_chunk)
        block = largest_block(phase)
        part = zyx(phase.part_of(source_chunk)).minimum(block) if source_chunk else block
        outputs = sum(target.bytes_of(Box((0, 0, 0), block)) for target in job.targets.values())
        computed = job.stage.memory(Box((0, 0, 0), part).grow(phase.grid.halo).shape)
        return computed + 2 * outputs  # the array, and its compressed chunks

    def prefetch_memory(self, job: Job, inputs: Iterable[Layer]) -> int:
        if job.phase.part is not None:
            return 0
        voxels = Box((0, 0, 0), largest_block(job.phase)).grow(job.phase.grid.halo).size
        return sum(np.dtype(each.dtype).itemsize * (each.channels or 1) * voxels for each in inputs)


def _outputs_in_parts(job: Job, block: Block) -> dict[str, np.ndarray]:
    """The outputs of a block of a coarser scale, of which one part at a time is in memory."""
    outputs: dict[str, np.ndarray] = {}
    part_shape = job.phase.part_of(first_volume(job).chunk)
    for box in tiles(block.write, part_shape, block.write.start):
        part = replace(block, write=box, read=box.grow(job.phase.grid.halo))
        mask, inputs = read_inputs(job, part)
        assert inputs is not None  # the mask counts at the finest scale only
        if job.stage.takes_mask():
            inputs["mask"] = mask
        for name, array in job.stage.run(part, **inputs).items():
            assert isinstance(array, np.ndarray)  # a phase that zooms writes volumes
            layer = job.targets[name].layer
            cropped = over_write_box(type(job.stage).__name__, name, layer, part, array)
            if name not in outputs:
                outputs[name] = np.empty((*cropped.shape[:-3], *block.write.shape), cropped.dtype)
            outputs[name][(..., *box.within(block.write))] = cropped
    return outputs


def _empty_outputs(job: Job, block: Block) -> dict[str, Any]:
    """The outputs of a block that the mask excludes: zeros, and tables without rows."""
    outputs: dict[str, Any] = {}
    for name, declared in job.stage.outputs.items():
        if isinstance(declared, Columns):
            outputs[name] = {column: np.zeros(0, dtype) for column, dtype in declared.dtypes}
        else:
            layer = job.targets[name].layer
            leading = (layer.channels,) if layer.channels else ()
            outputs[name] = np.zeros((*leading, *block.write.shape), layer.dtype)
    return outputs
