"""The records of a step: small tables, one for each block, under the step's digest."""

from __future__ import annotations

from functools import partial

from volflow.engine.fence import require_current
from volflow.engine.job import Job
from volflow.io.run.records import Records


def step_records(job: Job, name: str) -> Records:
    """The records of a job's step with a name, such as `total.up.0`.

    Writing raises `RunHeld` if the driver that handed out the job has lost the run.
    """
    before_write = partial(require_current, job, recheck=False)
    return Records(job.run, _folder(job.step, job.digest, name), before_write)


def records_of(run: str, step: str, digest: str, name: str) -> Records:
    """The records of any step of a run."""
    return Records(run, _folder(step, digest, name))


def _folder(step: str, digest: str, name: str) -> str:
    return f"records/{step}/{digest}/{name}"
