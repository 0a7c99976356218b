"""The loss of a Dask scheduler, which Dask reports in many ways, as an error of the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from volflow.errors import ClusterError

LOST = (
    "expected the Dask scheduler to accept a connection, but it was lost and not restored; blocks "
    "that are done stay done; start a scheduler and run again to resume"
)


@contextlib.contextmanager
def scheduler_errors(client: Any) -> Iterator[None]:
    """Translate what Dask raises once the connection to its scheduler is lost.

    Parameters
    ----------
    client : distributed.Client

    Raises
    ------
    ClusterError
        If the connection is lost, at the start or while the context lasts.
    """
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    require_scheduler(client)
    try:
        yield
    except (ClosedClientError, CommClosedError) as error:
        raise ClusterError(LOST) from error
    except (OSError, RuntimeError) as error:  # of Dask only if it has lost its scheduler
        if client.status == "running":
            raise
        raise ClusterError(LOST) from error


def require_scheduler(client: Any) -> None:
    """Check that a client has not given up its scheduler.

    Raises
    ------
    ClusterError
        If it has.
    """
    if client.status in ("closing", "closed"):
        raise ClusterError(LOST)
