"""Settings of all tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, and no deadline: machines that run tests are shared.
settings.register_profile("volflow", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("volflow")

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
    settings = {"VOLFLOW_SLURM": folder, "VOLFLOW_SLURM_PORT": str(_free_ports(202))}
    environment = {**os.environ, **settings}
    try:
        subprocess.run([SLURM / "up.sh"], env=environment, check=True, capture_output=True)
        configuration = Path(folder) / "slurm.conf"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(configuration))
            yield configuration
    finally:
        subprocess.run([SLURM / "down.sh"], env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> int:
    """The first of so many ports, the beginning of which nobody listens at."""
    for first in range(21_000, 30_000, count):
        if all(_is_free(port) for port in range(first, first + 4)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
