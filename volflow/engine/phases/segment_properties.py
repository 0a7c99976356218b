"""Properties of segments and Parquet tables that a grouping leaves when it is done.

results/STEP/segment_properties/info    the properties
SEGMENTATION/segment_properties/info    a copy, if the run wrote the segmentation as precomputed,
                                        which its own `info` names: Neuroglancer looks there alone
results/STEP.parquet/part-00000.parquet a part of the table for each partition
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from volflow.core.stage import Grouping, Record
from volflow.engine.fence import require_current
from volflow.engine.job import Job
from volflow.engine.phases.sources import VolumeSource
from volflow.io.address import Address
from volflow.io.formats.precomputed import add_to_info
from volflow.io.store import Store
from volflow.io.tables.parquet import parquet_bytes

NAME = "segment_properties"


def write_properties(job: Job, stage: Grouping, partials: Mapping[str, Sequence[Record]]) -> None:
    """Write the properties of segments that a stage declares (`Grouping.properties_of`)."""
    body = json.dumps(stage.segment_properties(partials), separators=(",", ":")).encode()
    Store(job.run).write(f"results/{job.step}/{NAME}/info", body)
    source = job.sources.get(stage.properties_of)
    if not isinstance(source, VolumeSource) or not source.own:
        return
    address = Address.parse(source.spec.path)
    if address.format_name == "precomputed":
        Store(str(address)).write(f"{NAME}/info", body)
        add_to_info(address, {NAME: NAME})


def write_part(job: Job, stage: Grouping, partial: Record, partition: int) -> None:
    """Write the rows of a partition as Parquet."""
    empty: dict[str, list[Record]] = {name: [] for name in stage.rounds}
    body = parquet_bytes(stage.table({**empty, job.phase.round_name: [partial]}))
    require_current(job)
    Store(job.run).write(f"results/{job.step}.parquet/{_part(partition)}", body)


def finish_parts(job: Job, partitions: int) -> None:
    """Delete the parts of an earlier run of the step."""
    keep = {_part(number) for number in range(partitions)}
    prefix = f"results/{job.step}.parquet/"
    Store(job.run).delete_prefix(
        prefix, only=lambda key: key.endswith(".parquet") and key.rpartition("/")[2] not in keep
    )


def _part(number: int) -> str:
    return f"part-{number:05}.parquet"
