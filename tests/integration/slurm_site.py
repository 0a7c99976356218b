"""Queries to a Slurm on this machine, and the check that a run left nothing there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from volflow.engine.executors.profile import Profile, find_profile
from volflow.engine.monitor.observer import RunObserver

JOB = "--format=%A|%P|%T|%N"
SCRIPTS = Path(__file__).parents[2] / "deploy" / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Noting(RunObserver):
    """Stores the messages of a run, and the workers that it lost."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.lost: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def workers_change(self, joined, lost) -> None:
        self.lost += lost


def ask(*command: str, environment: dict[str, str] | None = None) -> str:
    """Output of a command."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def jobs(partition: str) -> dict[str, str]:
    """The jobs at work in a partition, and their nodes."""
    rows = [line.split("|") for line in ask("squeue", "-h", JOB).splitlines()]
    return {
        job: node for job, where, state, node in rows if (where, state) == (partition, "RUNNING")
    }


def told_of(job: str, key: str) -> str:
    """Slurm's description of a job."""
    actual = re.search(rf"\b{key}=(\S+)", ask("scontrol", "show", "job", job))
    assert actual
    return actual.group(1)


def state(job: str) -> str:
    """Slurm's word for what became of a job."""
    return told_of(job, "JobState")


def set_node(node: str, state: str) -> None:
    """Take a node down."""
    ask("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")


def resume_nodes() -> None:
    """Have every node back that was taken down."""
    for node in ("n0", "n1"):
        if "down" in ask("sinfo", "-h", "-n", node, "--format=%T"):
            set_node(node, "RESUME")


def profile(folder: Path, *, cpu: object = None, gpu: object = None, **top: object) -> Profile:
    """The profile of this site with the pools `cpu` and `gpu` and some changes, in a file."""
    base = {"workers": 2, "memory": "600 MB", "walltime": "00:05:00", "partition": "cpu"}
    pools = {
        "cpu": {**base, **(cpu or {})},
        "gpu": {**base, "workers": 1, "partition": "gpu", "gpus": 1, **(gpu or {})},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"cluster": "slurm", "interface": "lo", "pools": pools, **top}))
    return find_profile(str(path))


def assert_nothing_left(place: Path) -> None:
    """No job, no key and no process of a run is left that named a folder."""
    deadline = time.monotonic() + 60
    while "volflow-" in ask("squeue", "-h", "--format=%j") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "volflow-" not in ask("squeue", "-h", "--format=%j")
    assert not (place / "volflow-keys").exists()
    while (left := _of(str(place))) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def _of(place: str) -> list[str]:
    """Command lines of processes that name a place: workers name the keys there."""
    actual = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if place in line and process.pid != os.getpid():
            actual.append(line)
    return actual


def lacking() -> str:
    """The reason why this machine can start no Slurm; empty if it can."""
    if os.getuid() != 0:
        return "a Slurm is started by root only"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)} (Debian: munge, slurmctld, slurmd, slurm-client)"
    return ""


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """Start a real Slurm of two nodes; its configuration."""
    folder = tempfile.mkdtemp(prefix="vs", dir="/tmp")  # short: it contains sockets
    os.chmod(folder, 0o755)
    port, held = _own_ports()
    settings = {"VOLFLOW_SLURM": folder, "VOLFLOW_SLURM_PORT": str(port)}
    environment = {**os.environ, **settings}
    try:
        up = subprocess.run(
            [SCRIPTS / "up.sh"], env=environment, check=False, capture_output=True, text=True
        )
        assert up.returncode == 0, f"deploy/slurm/up.sh: {up.stderr[-4000:]}"
        yield Path(folder) / "slurm.conf"
    finally:
        subprocess.run([SCRIPTS / "down.sh"], env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        held.close()


def _own_ports() -> tuple[int, socket.socket]:
    """The first port of a Slurm, and a socket that keeps other test runs from these ports.

    `deploy/slurm/up.sh` uses the first few, and 100 from the hundredth on; the one between is not
    used, and is held as long as these ports are ours.
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
