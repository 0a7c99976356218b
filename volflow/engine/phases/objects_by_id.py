"""Objects by id that a grouping leaves under `results/STEP`: a shard for each partition.

results/STEP/precomputed/info        written last: a reader that sees it finds all objects
results/STEP/precomputed/0.shard     the objects of partition 0
results/STEP/precomputed/ID          of meshes that are not sharded
results/STEP/swc/ID.swc              on request, a file for each skeleton
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from volflow.core.stage import Grouping, Layer, ObjectById, ObjectsById
from volflow.engine.fence import require_current
from volflow.engine.job import Job, PlannedStep
from volflow.engine.phases.sources import VolumeSource
from volflow.errors import BlockError
from volflow.io.meshes.objects_by_id import LegacyMeshObjects, MeshObjects
from volflow.io.skeletons.objects_by_id import SkeletonObjects
from volflow.io.store import Store
from volflow.io.uint64_shards import ShardLayout

OBJECT_ID = "object_id"  # the column of a partition's record with the ids of its objects


class ObjectFormat(Protocol):
    """The bytes in which objects of a kind are stored; keys are relative to `results/STEP`."""

    def shard(self, objects: Sequence[Any], layout: ShardLayout) -> bytes:
        """The bytes of the shard with these objects."""

    def files(self, objects: Sequence[Any]) -> dict[str, bytes]:
        """The files of objects outside shards, by key."""

    def file_keys(self, ids: Sequence[int]) -> set[str]:
        """The keys of these files."""

    def info(self, sharding: Mapping[str, Any]) -> dict[str, Any]:
        """The content of `info`."""


FORMATS: dict[str, Callable[[ObjectsById], ObjectFormat]] = {
    "skeletons": SkeletonObjects,
    "meshes": MeshObjects,
    "legacy_meshes": LegacyMeshObjects,
}
"""By the kind of the objects; for objects as declared."""

_OBJECT = re.compile(r"precomputed/([0-9a-f]+\.shard|\d+(\.index|:0(:0)?)?)|swc/\d+\.swc", re.ASCII)
"""The keys that objects of any kind can have."""


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
    job: Job, declared: ObjectsById, objects: Sequence[ObjectById], partition: int, partitions: int
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
    form = FORMATS[declared.kind](declared)
    files = form.files(objects)
    if declared.sharded and objects:
        files[f"precomputed/{layout.name(partition)}"] = form.shard(objects, layout)
    store = _store(job.run, job.step)
    require_current(job)
    for key, body in files.items():
        store.write(key, body)
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
    form = FORMATS[declared.kind](declared)
    keep = form.file_keys(ids.tolist())
    if declared.sharded:
        shards = np.unique(layout.shard_of(ids)).tolist()
        keep |= {f"precomputed/{layout.name(number)}" for number in shards}
    for folder in ("precomputed/", "swc/"):
        foreign = functools.partial(_is_left, folder=folder, keep=keep)
        store.delete_prefix(folder, only=foreign)
    store.write_json("precomputed/info", form.info(layout.metadata))


def withdraw_objects(run: str, step: PlannedStep) -> None:
    """Delete the `info` of a step's objects, before they are written again."""
    if isinstance(step.stage, Grouping) and step.stage.by_id is not None:
        _store(run, step.name).delete("precomputed/info")


def objects_shown(step: PlannedStep) -> str:
    """The objects that a viewer draws with the segments of a step: skeletons, meshes, or ""."""
    if not isinstance(step.stage, Grouping) or step.stage.by_id is None:
        return ""
    return step.stage.by_id.kind.removeprefix("legacy_")


def paths_with_objects(step: PlannedStep) -> set[str]:
    """The paths of the segmentations whose objects a step writes."""
    return {
        source.spec.path
        for job in step.jobs
        for name, source in job.sources.items()
        if isinstance(source, VolumeSource)
        and type(step.stage).wants.get(name, Layer()).kind == "segmentation"
    }


def _is_left(key: str, folder: str, keep: set[str]) -> bool:
    """Whether a key in a folder is that of an object which is not to be kept."""
    return _OBJECT.fullmatch(folder + key) is not None and folder + key not in keep


def _store(run: str, step: str) -> Store:
    return Store(f"{Store(run).location}/results/{step}")
