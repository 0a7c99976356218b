"""Settings of all tests."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and nothing by the clock: machines that run tests are shared.
settings.register_profile(
    "volflow",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("volflow")

# A shell without job control has what it runs with `&` ignore Ctrl-C, and that is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIRST = ("slurm", "slow", "cluster", "browser")
"""Markers of tests that take long, or wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first: at the end one process would be left alone with them."""
    count = Counter(item.path for item in items)
    marked = {item.path: len(FIRST) for item in items}
    for item in items:
        ranks = (FIRST.index(each.name) for each in item.iter_markers() if each.name in FIRST)
        marked[item.path] = min(marked[item.path], *ranks, len(FIRST))
    items.sort(key=lambda item: (marked[item.path], -count[item.path]))


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """The logger as it is before a command line was used in this process, which sets it up."""
    ours = logging.getLogger("volflow")
    ours.handlers, ours.propagate = [], True
    ours.setLevel(logging.NOTSET)


SLURM = Path(__file__).parents[1] / "deploy" / "slurm"


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The configuration of a real Slurm of two nodes that runs while the tests do."""
    if os.getuid() != 0:
        pytest.skip("a Slurm is started by root only")
    missing = [
        name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)
    ]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (Debian: munge, slurmctld, slurmd, slurm-client)")
    folder = tempfile.mkdtemp(prefix="vs", dir="/tmp")  # short: sockets lie in it
    os.chmod(folder, 0o755)
    port, held = _own_ports()
    settings = {"VOLFLOW_SLURM": folder, "VOLFLOW_SLURM_PORT": str(port)}
    environment = {**os.environ, **settings}
    try:
        up = subprocess.run(
            [SLURM / "up.sh"], env=environment, check=False, capture_output=True, text=True
        )
        assert up.returncode == 0, f"deploy/slurm/up.sh: {up.stderr[-4000:]}"
        configuration = Path(folder) / "slurm.conf"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(configuration))
            yield configuration
    finally:
        subprocess.run([SLURM / "down.sh"], env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        held.close()


def _own_ports() -> tuple[int, socket.socket]:
    """The first of the ports of a Slurm, and a socket that keeps other test runs from them.

    `deploy/slurm/up.sh` wants the first few, and 100 from the hundredth on; nobody uses the one
    between, which is held as long as they are ours.
    """
    for first in range(21_000, 30_000, 202):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", first + 50))
        except OSError:
            held.close()
            continue
        if all(_is_free(port) for port in range(first, first + 8)):
            return first, held
        held.close()
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
