"""Object stores on this machine: real servers, each with an empty bucket named `bucket`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

BUCKET = "bucket"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The endpoint of an S3 server."""
    _require("moto")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, environment):
        endpoint = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        _answered(request)
        yield endpoint


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """The endpoint of a Google Cloud Storage server."""
    _require("gcp_storage_emulator")
    port = free_port()
    with _running([sys.executable, "-m", "tests.io.gcs_server", str(port), BUCKET], {}):
        endpoint = f"http://127.0.0.1:{port}"
        _answered(urllib.request.Request(f"{endpoint}/storage/v1/b"))
        yield endpoint


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it is one of volflow's `test` extra")


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """A process while the context lasts; what it says is not kept."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    everything = {**os.environ, "PYTHONPATH": root, **environment}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=everything
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _answered(request: urllib.request.Request, seconds: float = 60) -> None:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
