"""Objects by id that a grouping leaves under `results/STEP`: a shard for each partition.

results/STEP/precomputed/info        written last: a reader that sees it finds all objects
results/STEP/precomputed/0.shard     the objects of partition 0
results/STEP/swc/ID.swc              on request, a file for each object
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.core.skeleton import Skeleton
from volflow.core.stage import Grouping, Layer, ObjectsById
from volflow.engine.fence import require_current
from volflow.engine.job import Job, PlannedStep
from volflow.engine.phases.sources import VolumeSource
from volflow.errors import BlockError
from volflow.io.skeletons import precomputed, swc
from volflow.io.store import Store
from volflow.io.uint64_shards import ShardLayout

OBJECT_ID = "object_id"  # the column of a partition's record with the ids of its objects


def shard_layout(partitions: int) -> ShardLayout:
    """The layout whose shards are the partitions.

    Raises
    ------
    BlockError
        If their number is not a power of two.
    """
    if partitions < 1 or partitions & (partitions - 1):
        raise BlockError(
            f"a stage with objects by id needs 2, 4, 8 ... partitions; got {partitions}"
        )
    return ShardLayout(partitions.bit_length() - 1)


def write_objects(
    job: Job, declared: ObjectsById, objects: Sequence[Skeleton], partition: int, partitions: int
) -> np.ndarray:
    """Write the objects of a partition, in place of those of an earlier attempt.

    Returns
    -------
    uint64 (N,)
        Their ids.

    Raises
    ------
    BlockError
        If an id is not of this partition, or occurs twice.
    RunHeld
        If the driver that handed out the job has lost the run; nothing is written then.
    """
    layout = shard_layout(partitions)
    ids = np.array([each.name for each in objects], np.uint64)
    foreign = ids[layout.shard_of(ids) != partition]
    if len(foreign) or len(np.unique(ids)) < len(ids):
        raise BlockError(
            f"{type(job.stage).__name__} returned objects of other partitions or twice: "
            f"{(foreign if len(foreign) else ids)[:3].tolist()}"
        )
    body = layout.shard_bytes({each.name: precomputed.encode(each) for each in objects})
    store = _store(job.run, job.step)
    require_current(job)
    if len(ids):
        store.write(f"precomputed/{layout.name(partition)}", body)
    if declared.files:
        for each in objects:
            text = swc.format_swc(each, swc.Scaling(), declared.soma_nm)
            store.write(f"swc/{each.name}{swc.SUFFIX}", text.encode())
    return ids


def finish_objects(job: Job, declared: ObjectsById, ids: np.ndarray, partitions: int) -> None:
    """Write `info`, after deleting objects that an earlier run of the step left.

    Parameters
    ----------
    job : Job
    declared : ObjectsById
    ids : uint64 (N,)
        The ids of all objects of the step.
    partitions : int
    """
    layout = shard_layout(partitions)
    store = _store(job.run, job.step)
    keep = {layout.name(number) for number in np.unique(layout.shard_of(ids)).tolist()}
    store.delete_prefix("precomputed/", only=lambda key: _is_shard(key) and key not in keep)
    files = {f"{name}{swc.SUFFIX}" for name in ids.tolist()} if declared.files else set()
    store.delete_prefix("swc/", only=lambda key: _is_swc(key) and key not in files)
    store.write_json("precomputed/info", precomputed.info_of(layout.metadata))


def withdraw_objects(run: str, step: PlannedStep) -> None:
    """Delete the `info` of a step's objects, before they are written again."""
    if isinstance(step.stage, Grouping) and step.stage.by_id is not None:
        _store(run, step.name).delete("precomputed/info")


def paths_with_skeletons(step: PlannedStep) -> set[str]:
    """The paths of the segmentations whose skeletons a step writes."""
    if not isinstance(step.stage, Grouping) or step.stage.by_id is None:
        return set()
    return {
        source.spec.path
        for job in step.jobs
        for name, source in job.sources.items()
        if isinstance(source, VolumeSource)
        and type(step.stage).wants.get(name, Layer()).kind == "segmentation"
    }


def _store(run: str, step: str) -> Store:
    return Store(f"{Store(run).location}/results/{step}")


def _is_shard(key: str) -> bool:
    return key.endswith(".shard")


def _is_swc(key: str) -> bool:
    return key.endswith(swc.SUFFIX) and key.removesuffix(swc.SUFFIX).isdecimal()
