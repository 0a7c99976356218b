"""The records of a step: small tables, one for each block, under the step's digest."""

from __future__ import annotations

from volflow.engine.job import Job
from volflow.io.run.records import Records


def step_records(job: Job, name: str) -> Records:
    """The records of a job's step with a name, such as `total.up.0`."""
    return records_of(job.run, job.step, job.digest, name)


def records_of(run: str, step: str, digest: str, name: str) -> Records:
    """The records of any step of a run."""
    return Records(run, f"records/{step}/{digest}/{name}")
