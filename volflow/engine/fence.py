"""The check, before a task writes, that its driver still holds the run and its volumes."""

from __future__ import annotations

from volflow.engine.job import Job
from volflow.io.run.fence import require_fence
from volflow.io.run.owners import require_owner


def require_current(job: Job, *, recheck: bool = True) -> None:
    """Check that the driver that handed out a job still holds the run, and the run its volumes.

    Parameters
    ----------
    job : Job
    recheck : bool
        False: only the run is checked, and a check a moment ago suffices; see
        `volflow.io.run.fence.require_fence`.

    Raises
    ------
    RunHeld
        If not: the job's outputs are not needed any more, or another driver writes them.
    """
    require_fence(job.run, job.fence, recheck=recheck)
    if job.fence and recheck:
        for target in job.targets.values():
            require_owner(target.spec.path, job.digest, target.scale, job.run)
