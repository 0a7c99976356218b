"""Replace local workers whose nanny gave up.

Dask's nanny restarts a worker that dies, once. If the new one does not come up (on an overloaded
machine, or a slow file system), the nanny ends too, and Dask does not replace it. A run would wait
for its last worker forever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

PATIENT = {
    # The time from the death of a worker until its nanny gives up on the next one; Dask's default
    # is 15 seconds.
    "distributed.deploy.lost-worker-timeout": "1 hour",
    "distributed.comm.timeouts.connect": "2 minutes",
}
"""Dask settings under which a slow start does not count as a failed one."""


def replacer(cluster: Any) -> Callable[[], None]:
    """Return a function that starts workers in place of those without a nanny.

    The function returns at once and may be called at any interval.

    Parameters
    ----------
    cluster : distributed.SpecCluster
        Of nannies on this machine.
    """
    from distributed.core import Status

    replacing = False

    async def replace() -> None:
        nonlocal replacing
        if replacing or cluster.status is not Status.running:
            return
        replacing = True
        try:
            for name, nanny in list(cluster.workers.items()):
                if nanny.status in (Status.closed, Status.failed):
                    del cluster.workers[name]
            lost = set(cluster.worker_spec) - set(cluster.workers)
            if lost:
                logger.warning("workers %s did not restart; starting others", sorted(lost))
                await cluster._correct_state()
        except Exception as error:  # the next call tries again
            logger.warning("a worker was not started: %s: %s", type(error).__name__, error)
        finally:
            replacing = False

    return lambda: cluster.loop.add_callback(replace)
