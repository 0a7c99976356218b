"""A Dask scheduler that somebody else started: reached, and its workers looked at."""

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
from volflow.engine.executors.profile import Profile
from volflow.errors import ClusterError
from volflow.io.address import Address
from volflow.version import __version__

ANSWER = 10.0  # seconds that a scheduler may take to answer
FIRST_WORKER = 600.0  # seconds until a scheduler without workers counts as one that gets none


@contextlib.contextmanager
def scheduler_at(profile: Profile, run: str, note: Callable[[str], None]) -> Iterator[Any]:
    """A client of the scheduler at the address of a profile, once its workers can do the work.

    Raises
    ------
    ClusterError
        If nobody answers there, or its workers have no volflow, or do not see the run.
    """
    import dask
    from distributed import Client

    require_listener(profile.cluster)
    security = tls.given(profile.tls) if profile.tls else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({"distributed.comm.retry.count": 0}))
        try:
            client = stack.enter_context(Client(profile.cluster, security=security, timeout=ANSWER))
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"{profile.cluster}: something answers there, but not as a Dask scheduler that "
                f"would have us ({error}); expected the scheduler's address, and for tls:// the "
                f"certificates that it knows"
            ) from error
        if profile.cluster.startswith("tcp://"):
            note(f"{profile.cluster} is not encrypted: whoever reaches that port runs code there")
        _wait_for_a_worker(client, profile, note)
        require_able_workers(client, run)
        yield client


def require_listener(address: str) -> None:
    """Somebody listens at an address such as tcp://HOST:PORT.

    Raises
    ------
    ClusterError
        If not.
    """
    parts = urlsplit(address)
    try:
        port = parts.port or 8786
        socket.create_connection((parts.hostname or "", port), timeout=ANSWER).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: nobody answers there ({error}); expected the address of a Dask scheduler "
            f"that runs, as its log tells it"
        ) from error


def _wait_for_a_worker(client: Any, profile: Profile, note: Callable[[str], None]) -> None:
    deadline, told = time.monotonic() + FIRST_WORKER, False
    while not client.scheduler_info(n_workers=-1)["workers"]:
        if not told:
            note(f"{profile.cluster} has no workers yet")
            told = True
        if time.monotonic() > deadline:
            raise ClusterError(f"{profile.cluster} got no workers within {FIRST_WORKER:.0f} s")
        time.sleep(0.2)


def require_able_workers(client: Any, run: str) -> None:
    """The workers that are there have this volflow, and see the folder of the run.

    Raises
    ------
    ClusterError
        If one of them does not.
    """
    folder = Address.parse(run).local if run else None
    token = folder / f".volflow-{secrets.token_hex(8)}" if folder else None
    if token:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ a little
            found = client.run(look_around, str(token) if token else "", on_error="return")
    finally:
        if token:
            token.unlink()
    wrong = {where: text for where, answer in found.items() if (text := _wrong(answer, run))}
    if wrong:
        where, text = next(iter(wrong.items()))
        raise ClusterError(f"{len(wrong)} of {len(found)} workers cannot do it: {where}: {text}")


def look_around(token: str) -> tuple[str, bool]:
    """On a worker: the version of volflow, and whether a file is seen."""
    return __version__, not token or Path(token).exists()


def _wrong(answer: Any, run: str) -> str:
    if isinstance(answer, BaseException):
        return f"volflow cannot be imported there ({type(answer).__name__}: {answer})"
    version, seen = answer
    if version != __version__:
        return f"volflow {version} is installed there, and {__version__} here"
    if not seen:
        return (
            f"the folder {run} is not seen there; a run of several machines has to be in a folder "
            f"that they share, or in an object store such as s3://BUCKET/KEY"
        )
    return ""
