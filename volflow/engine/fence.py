"""The check, before a task writes, that its driver still holds the run."""

from __future__ import annotations

from volflow.engine.job import Job
from volflow.io.run.fence import require_fence


def require_current(job: Job, *, recheck: bool = True) -> None:
    """Check that the driver that handed out a job still holds the run.

    Parameters
    ----------
    job : Job
    recheck : bool
        False: a check a moment ago suffices; see `volflow.io.run.fence.require_fence`.

    Raises
    ------
    RunHeld
        If it does not: the job's outputs are not needed any more, or another driver writes them.
    """
    require_fence(job.run, job.fence, recheck=recheck)
