"""Partitions of a Slurm site, with their limits and nodes, as reported by Slurm's commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field

from volflow.errors import PlanError

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
ANSWER_WITHIN = 60  # seconds that Slurm may take to answer


@dataclass
class Partition:
    """Limits of a partition, and the largest resources of any of its nodes."""

    seconds: float = 0.0
    """Longest wall time."""
    cores: int = 0
    memory: int = 0
    """In bytes."""
    gpus: int = 0
    gpu_types: set[str] = field(default_factory=set)
    """Names of GPU types, where the site names them."""

    def add(self, limit: str, gres: str, cores: str, memory: str) -> None:
        """Include nodes as `sinfo` lists them."""
        self.seconds = max(self.seconds, limit_seconds(limit))
        self.cores = max(self.cores, _leading_number(cores))
        self.memory = max(self.memory, _leading_number(memory) * 2**20)
        for gpu_type, count in re.findall(r"\bgpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres):
            self.gpus = max(self.gpus, int(count))
            self.gpu_types.update({gpu_type} - {""})


@dataclass(frozen=True)
class Site:
    """Partitions by name, and the default one ("": there is none)."""

    partitions: dict[str, Partition]
    default: str = ""


def missing_commands() -> list[str]:
    """Commands of Slurm that are not on the path."""
    return [name for name in COMMANDS if shutil.which(name) is None]


def query_site() -> Site:
    """Partitions of the site, according to `sinfo`.

    Raises
    ------
    PlanError
        If Slurm does not answer; the message quotes its error output.
    """
    command = ["sinfo", "--noheader", "--exact", "--format=%P|%l|%G|%c|%m"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_WITHIN, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PlanError(f"sinfo: Slurm did not answer within {ANSWER_WITHIN} s") from error
    if done.returncode:
        raise PlanError(f"sinfo: Slurm does not answer: {' '.join(done.stderr.split())}")
    return read_site(done.stdout)


def read_site(text: str) -> Site:
    """Partitions in the output of `sinfo --format='%P|%l|%G|%c|%m'`."""
    partitions: dict[str, Partition] = {}
    default = ""
    for line in text.splitlines():
        name, *rest = line.strip().split("|")
        if len(rest) == 4:
            if name.endswith("*"):
                name = default = name[:-1]
            partitions.setdefault(name, Partition()).add(*rest)
    return Site(partitions, default)


def limit_seconds(text: str) -> float:
    """Seconds of a time limit as `sinfo` shows it: `infinite`, `5:00`, `1-00:00:00`."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return float("inf")  # infinite, n/a, UNLIMITED
    hours, minutes, seconds = [0] * (3 - len(parts)) + [int(part) for part in parts]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds


def _leading_number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match.group()) if match else 0


def test_submission(script: str) -> str:
    """Slurm's reason to refuse a job with this script; empty if it accepts. Submits nothing."""
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            input=script,
            capture_output=True,
            text=True,
            timeout=ANSWER_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"sbatch did not answer within {ANSWER_WITHIN} s"
    if done.returncode == 0:
        return ""
    lines = [line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "sbatch gives no reason"
