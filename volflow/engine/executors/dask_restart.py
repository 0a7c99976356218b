"""Workers on this machine that nobody would start again are replaced.

Dask's nanny starts a worker anew that dies, once: where that one does not come up (the machine is
far too busy, a file system is slow) the nanny ends, and nobody misses it. A run would wait for its
last worker for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

PATIENT = {
    # A worker that is started anew has this long, from the death of the one before, until its
    # nanny is ended; Dask gives it 15 seconds.
    "distributed.deploy.lost-worker-timeout": "1 hour",
    "distributed.comm.timeouts.connect": "2 minutes",
}
"""What Dask is told, so that a slow start is not taken for none."""


def replaces_lost(hosts: Any) -> Callable[[], None]:
    """What starts the workers of a cluster that have no nanny any more; call it now and then.

    Parameters
    ----------
    hosts : distributed.SpecCluster
        Of nannies on this machine.
    """
    from distributed.core import Status

    busy = False

    async def replace() -> None:
        nonlocal busy
        if busy or hosts.status is not Status.running:
            return
        busy = True
        try:
            for name, nanny in list(hosts.workers.items()):
                if nanny.status in (Status.closed, Status.failed):
                    del hosts.workers[name]
            lost = set(hosts.worker_spec) - set(hosts.workers)
            if lost:
                logger.warning("workers %s did not come back; others are started", sorted(lost))
                await hosts._correct_state()
        except Exception as error:  # they are tried again
            logger.warning("a worker was not started: %s: %s", type(error).__name__, error)
        finally:
            busy = False

    return lambda: hosts.loop.add_callback(replace)
