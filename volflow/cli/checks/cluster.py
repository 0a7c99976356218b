"""Check of the Slurm cluster that this machine can submit to."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator

from volflow.cli.checks.finding import Finding

ANSWER_SECONDS = 20  # a busy controller answers late
SHOWN = 8  # partitions


def check_slurm() -> Iterator[Finding]:
    """Partitions that `sinfo` lists, and the package that submits the jobs."""
    command = shutil.which("sinfo")
    if command is None:
        yield Finding("slurm", "none", "no Slurm: `sinfo` is not on the PATH")
        return
    try:
        result = subprocess.run(
            [command, "--noheader", "--format=%R %a %D"],
            capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("slurm", "warning", f"`sinfo` gave no answer: {error}")
        return
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        yield Finding("slurm", "warning", f"`sinfo` failed: {lines[0]}")
        return
    text = f"partitions: {_partitions(result.stdout)}"
    if importlib.util.find_spec("dask_jobqueue") is None:
        remedy = "pip install '.[slurm]', in the folder of the source code"
        yield Finding("slurm", "warning", f"{text}; the package dask-jobqueue is missing", remedy)
    else:
        yield Finding("slurm", "ok", text)


def _partitions(answer: str) -> str:
    """Partitions with their nodes: `cpu (4 nodes), gpu (2 nodes, down)`."""
    nodes: dict[str, int] = {}
    states: dict[str, str] = {}
    for line in answer.splitlines():
        parts = line.split()
        if len(parts) != 3:
            continue
        name, state, number = parts
        nodes[name] = nodes.get(name, 0) + int(number)
        states[name] = state
    shown = [
        f"{name} ({number} node{'' if number == 1 else 's'}"
        f"{'' if states[name] == 'up' else ', ' + states[name]})"
        for name, number in nodes.items()
    ]
    more = [f"and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
    return ", ".join([*shown[:SHOWN], *more]) or "none"
