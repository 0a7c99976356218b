"""A Dask scheduler that runs elsewhere, and the checks of its workers."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from volflow.engine.executors import tls
from volflow.engine.executors.base import Executor, ExecutorRequest
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.local import dashboard_note
from volflow.engine.executors.lost_scheduler import require_scheduler, scheduler_errors
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.errors import ClusterError
from volflow.io.address import Address
from volflow.io.run.leftovers import SIGHT
from volflow.version import __version__

ANSWER_WITHIN = 10.0  # seconds that a scheduler may take to answer
FIRST_WORKER_WITHIN = 600.0  # seconds until a scheduler without workers counts as a failure


@contextlib.contextmanager
def open_executor(profile: Profile, request: ExecutorRequest) -> Iterator[Executor]:
    """Connect to the scheduler at the address of a profile."""
    with connected_client(profile, request.run, request.notify) as client:
        request.notify(dashboard_note(client))
        yield DaskExecutor(client, request.search_path, request.timeout)


def preflight_problems(plan: Plan, profile: Profile) -> Iterator[str]:
    """No problems: whether the scheduler can be reached shows when it is opened."""
    yield from ()


@contextlib.contextmanager
def connected_client(profile: Profile, run: str, notify: Callable[[str], None]) -> Iterator[Any]:
    """Yield a client of a scheduler that has at least one worker, all of them able to run blocks.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, or is lost, or its workers lack volflow or cannot see the
        run.
    """
    import dask
    from distributed import Client

    require_listener(profile.cluster)
    security = tls.security_of(profile.tls) if profile.tls else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.comm.retry.count": 0}))
        try:
            client = stack.enter_context(
                Client(profile.cluster, security=security, timeout=ANSWER_WITHIN)
            )
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"{profile.cluster}: no Dask scheduler accepts a connection there ({error}); "
                f"expected the scheduler's address, and for tls:// the certificates that it knows"
            ) from error
        if profile.cluster.startswith("tcp://"):
            notify(
                f"{profile.cluster} is not encrypted: anyone who can reach that port can run code "
                f"there"
            )
        with scheduler_errors(client):
            _wait_for_worker(client, profile, notify)
            require_able_workers(client, run)
        yield client


def require_listener(address: str) -> None:
    """Check that a process listens at an address such as tcp://HOST:PORT.

    Raises
    ------
    ClusterError
        If none does.
    """
    parts = urlsplit(address)
    try:
        port = parts.port or 8786
        socket.create_connection((parts.hostname or "", port), timeout=ANSWER_WITHIN).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: no answer ({error}); expected the address of a running Dask scheduler, "
            f"as in its log"
        ) from error


def _wait_for_worker(client: Any, profile: Profile, notify: Callable[[str], None]) -> None:
    deadline, notified = time.monotonic() + FIRST_WORKER_WITHIN, False
    while not client.scheduler_info(n_workers=-1).get("workers"):
        require_scheduler(client)
        if not notified:
            notify(f"{profile.cluster} has no workers yet")
            notified = True
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{profile.cluster}: no worker within {FIRST_WORKER_WITHIN:.0f} s; start workers "
                f"with that scheduler's address"
            )
        time.sleep(0.2)


def require_able_workers(client: Any, run: str) -> None:
    """Check that all workers have the same volflow as this process, and see the run's folder.

    Raises
    ------
    ClusterError
        If one of them does not.
    """
    folder = Address.parse(run).local if run else None
    token = folder / f"{SIGHT}{secrets.token_hex(8)}" if folder else None
    if token:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Dask's, of versions that differ a little
            answers = client.run(version_and_sight, str(token or ""), on_error="return")
    finally:
        if token:
            token.unlink()
    problems = {name: text for name, answer in answers.items() if (text := _problem(answer, run))}
    if problems:
        name, text = next(iter(problems.items()))
        raise ClusterError(
            f"{len(problems)} of {len(answers)} workers cannot run blocks; {name}: {text}"
        )


def version_and_sight(token: str) -> tuple[str, bool]:
    """Version of volflow, and whether a file exists ('' counts as such); runs on a worker."""
    return __version__, not token or Path(token).exists()


def _problem(answer: Any, run: str) -> str:
    """Problem that a worker's answer shows; empty if there is none."""
    if isinstance(answer, BaseException):
        return f"volflow cannot be imported there ({type(answer).__name__}: {answer})"
    version, seen = answer
    if version != __version__:
        return f"volflow {version} is installed there; expected {__version__}, as here"
    if not seen:
        return (
            f"the folder {run} does not exist there; for several machines put the run into a "
            f"folder that they share, or into an object store such as s3://BUCKET/KEY"
        )
    return ""
