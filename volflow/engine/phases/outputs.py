"""The outputs of a block: checked against the stage's declaration, then written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Columns, Layer, Record
from volflow.engine.fence import require_current
from volflow.engine.job import Job, Target
from volflow.engine.phases.step_records import step_records
from volflow.errors import BlockError
from volflow.io.volume import Volume, open_cached


def write_outputs(
    job: Job, block: Block, outputs: Mapping[str, Any], mask: np.ndarray | None
) -> None:
    """Check the outputs of a block against the declaration, then write all of them.

    Parameters
    ----------
    job : Job
    block : Block
    outputs : mapping
        Arrays (over the write box or the read box) and records, by the output's name.
    mask : bool array over the read box, optional
        Volumes are set to zero outside.

    Raises
    ------
    BlockError
        If an output is missing or too many, or has another dtype, shape or other columns than
        declared; nothing is written then.
    RunHeld
        If the driver that handed out the job has lost the run; nothing is written then.
    """
    stage = type(job.stage).__name__
    if not isinstance(outputs, Mapping):
        raise BlockError(
            f"{stage} returned a {type(outputs).__name__}; expected a dict of its outputs "
            f"{sorted(job.stage.outputs)}"
        )
    if set(outputs) != set(job.stage.outputs):
        raise BlockError(
            f"{stage} declares the outputs {sorted(job.stage.outputs)} "
            f"and returned {sorted(outputs)}"
        )
    volumes, records = [], []
    for name, declared in job.stage.outputs.items():
        if isinstance(declared, Columns):
            _check_columns(stage, name, declared, outputs[name])
            records.append((name, outputs[name]))
        else:
            array = over_write_box(stage, name, job.targets[name].layer, block, outputs[name])
            if mask is not None:
                array = np.where(block.crop(mask), array, np.zeros((), array.dtype))
            volumes.append((job.targets[name], array))
    for target, array in volumes:
        volume = _open(target)
        require_current(job)
        volume.write(block.write, array)
    for name, record in records:
        step_records(job, name).write(block.index, record)


def over_write_box(
    stage: str, name: str, layer: Layer, block: Block, array: np.ndarray
) -> np.ndarray:
    """The part of an output that the block writes.

    Raises
    ------
    BlockError
        If its dtype or shape is not the declared one.
    """
    leading = (layer.channels,) if layer.channels else ()
    if not isinstance(array, np.ndarray):
        got = type(array).__name__
        raise BlockError(f"{stage} returned output '{name}' as a {got}; expected a numpy array")
    if array.dtype != np.dtype(layer.dtype):
        raise BlockError(
            f"{stage} declares output '{name}' as {layer.dtype} and returned {array.dtype}"
        )
    if array.shape == (*leading, *block.write.shape):
        return array
    if array.shape == (*leading, *block.read.shape):
        return block.crop(array)
    raise BlockError(
        f"{stage} returned output '{name}' of shape {array.shape}; expected the write box "
        f"{(*leading, *block.write.shape)} or the read box {(*leading, *block.read.shape)}"
    )


def _check_columns(stage: str, name: str, columns: Columns, record: Record) -> None:
    expected = dict(columns.dtypes)
    returned = {key: str(column.dtype) for key, column in record.items()}
    if returned != {key: str(np.dtype(dtype)) for key, dtype in expected.items()}:
        raise BlockError(
            f"{stage} declares columns {expected} for '{name}' and returned {returned}"
        )


def _open(target: Target) -> Volume:
    """Open a volume for writing, at the scale of the target."""
    return open_cached(target.scale_spec, True)
