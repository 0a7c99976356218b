"""Object stores on this machine: real servers, each with an empty bucket named `bucket`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

BUCKET = "bucket"


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port without a listener, which no other process can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@contextlib.contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The endpoint of an S3 server."""
    _require("moto")
    with _running(["tests.io.s3_server"], environment) as endpoint:
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        _answered(request)
        yield endpoint


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """The endpoint of a Google Cloud Storage server."""
    _require("gcp_storage_emulator")
    with _running(["tests.io.gcs_server", BUCKET], {}) as endpoint:
        _answered(urllib.request.Request(f"{endpoint}/storage/v1/b"))
        yield endpoint


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; it is one of volflow's `test` extra")


@contextlib.contextmanager
def _running(module: list[str], environment: dict[str, str]) -> Iterator[str]:
    """The endpoint of a server that is a module of ours and prints its port; it ends with us."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    everything = {**os.environ, "PYTHONPATH": root, **environment}
    command = [sys.executable, "-m", *module]
    with tempfile.TemporaryFile("w+") as log:
        ours = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=ours, stdout=ours, stderr=log, text=True, env=everything
        )
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} did not start:\n{log.read()[-2000:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.communicate()


def _answered(request: urllib.request.Request, seconds: float = 240) -> None:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
