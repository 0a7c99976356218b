"""Annotations that a grouping leaves in `results/STEP/precomputed`, for Neuroglancer.

The partition of the last round writes all files but `info`, which is written when the step is done:
a reader that sees it finds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volflow.core.annotations import AnnotationSet
from volflow.core.stage import Grouping, Record
from volflow.engine.fence import require_current
from volflow.engine.job import Job, PlannedStep
from volflow.engine.phases.sources import TableOfStep, VolumeSource
from volflow.io.annotations.precomputed import files
from volflow.io.store import Store

FOLDER = "precomputed"
INFO, KEYS = "annotation_info", "annotation_keys"  # columns of the partition's record


def write_annotations(job: Job, annotations: AnnotationSet) -> Record:
    """Write the files of some annotations; the content of `info` and the keys of the others.

    Raises
    ------
    RunHeld
        If the driver that handed out the job has lost the run.
    """
    assert job.phase.below is not None
    store, keys, info = _store(job.run, job.step), [], b""
    for key, body in files(annotations, job.phase.below.bounds):
        if key == "info":
            info = body
            continue
        require_current(job)
        store.write(key, body)
        keys.append(key)
    return {INFO: np.frombuffer(info, np.uint8), KEYS: np.array(keys, "S")}


def finish_annotations(job: Job, partials: Sequence[Record]) -> None:
    """Write `info`, after deleting what an earlier run of the step left."""
    (partial,) = partials
    keys = {key.decode() for key in partial[KEYS].tolist()}
    store = _store(job.run, job.step)
    store.delete_prefix("", only=lambda key: key.endswith(".shard") and key not in keys)
    store.write("info", partial[INFO].tobytes())


def withdraw_annotations(run: str, step: PlannedStep) -> None:
    """Delete the `info` of a step's annotations, before they are written again."""
    if isinstance(step.stage, Grouping) and step.stage.annotates:
        _store(run, step.name).delete("info")


def annotated_volume(steps: Sequence[PlannedStep], step: PlannedStep) -> str | None:
    """The path of the segmentation whose ids are in a step's annotations; "" if it is unknown.

    None for a step without annotations.
    """
    if not isinstance(step.stage, Grouping) or not step.stage.annotates:
        return None
    tables = {
        source.step
        for job in step.jobs
        for source in job.sources.values()
        if isinstance(source, TableOfStep)
    }
    volumes = (
        source.spec.path
        for writer in steps
        if writer.name in tables
        for job in writer.jobs
        for name, source in job.sources.items()
        if name == "segmentation" and isinstance(source, VolumeSource)
    )
    return next(volumes, "")


def _store(run: str, step: str) -> Store:
    return Store(f"{Store(run).location}/results/{step}/{FOLDER}")
