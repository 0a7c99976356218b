"""What a Slurm site has, as its own commands tell it: partitions, their limits and their nodes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field

from volflow.errors import PlanError

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
PATIENCE = 60  # seconds that Slurm may take to answer


@dataclass
class Partition:
    """A partition, with the most that one of its nodes has."""

    seconds: float = 0.0
    """Longest walltime."""
    cores: int = 0
    memory: int = 0
    gpus: int = 0
    kinds: set[str] = field(default_factory=set)
    """Kinds of GPU that are named."""

    def add(self, limit: str, gres: str, cores: str, memory: str) -> None:
        """Count in nodes as `sinfo` shows them."""
        self.seconds = max(self.seconds, limit_seconds(limit))
        self.cores = max(self.cores, _number(cores))
        self.memory = max(self.memory, _number(memory) * 2**20)
        for kind, count in re.findall(r"\bgpu(?::([A-Za-z][\w.-]*))?:(\d+)", gres):
            self.gpus = max(self.gpus, int(count))
            self.kinds.update({kind} - {""})


@dataclass(frozen=True)
class Site:
    """Partitions by name, and which one a job gets that names none ("": there is no such one)."""

    partitions: dict[str, Partition]
    default: str = ""


def missing_commands() -> list[str]:
    """Commands of Slurm that are not on the path."""
    return [name for name in COMMANDS if shutil.which(name) is None]


def ask_site() -> Site:
    """The partitions of the site.

    Raises
    ------
    PlanError
        If Slurm does not answer; with what it said instead.
    """
    command = ["sinfo", "--noheader", "--exact", "--format=%P|%l|%G|%c|%m"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PlanError(f"sinfo: Slurm did not answer within {PATIENCE} s") from error
    if done.returncode:
        raise PlanError(f"sinfo: Slurm does not answer: {' '.join(done.stderr.split())}")
    return read_site(done.stdout)


def read_site(text: str) -> Site:
    """The partitions that `sinfo --format='%P|%l|%G|%c|%m'` lists."""
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
    """Seconds of a limit as `sinfo` shows it: `infinite`, `5:00`, `1-00:00:00`."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return float("inf")  # infinite, n/a, UNLIMITED
    hours, minutes, seconds = [0] * (3 - len(parts)) + [int(part) for part in parts]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds


def _number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found.group()) if found else 0


def test_submission(script: str) -> str:
    """Why Slurm would not take a job with this script; empty if it would. Nothing is submitted."""
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            input=script,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"sbatch did not answer within {PATIENCE} s"
    if done.returncode == 0:
        return ""
    lines = [line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "sbatch does not say why"
