"""The script that runs a driver as a Slurm job: its reaction to each end of the driver."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.engine.runs import wait_for

SCRIPT = Path(__file__).parents[3] / "deploy" / "slurm" / "driver.sbatch"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder in which `volflow` ends with the codes in a file, line by line, then waits."""
    commands = {
        "volflow": f"""echo "$*" >> {tmp_path}/asked
code=$(sed -n "$(wc -l < {tmp_path}/asked)p" {tmp_path}/codes)
[ "$code" = 137 ] && kill -KILL $$
[ -n "$code" ] && exit "$code"
trap 'exit 130' INT TERM
touch {tmp_path}/waits
while :; do sleep 0.05; done""",
        "scontrol": f'echo "$*" >> {tmp_path}/scontrol',
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("VOLFLOW_PAUSE", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return tmp_path


def started(job: Path, *codes: int) -> subprocess.Popen[bytes]:
    (job / "codes").write_text("".join(f"{code}\n" for code in codes))
    (job / "asked").touch()
    return subprocess.Popen(["bash", SCRIPT, "a b.yaml", "--cluster", "site.yaml"])


@pytest.mark.parametrize(
    ("codes", "tries"),
    [([0], 1), ([3], 1), ([2], 1), ([4, 4, 0], 3), ([137, 0], 2), ([4, 3], 2), ([4] * 10, 10)],
)
def test_temporary_errors_are_retried_and_mistakes_are_not(job, codes, tries):
    assert started(job, *codes, 77).wait() == codes[-1]
    assert (job / "asked").read_text() == "run a b.yaml --cluster site.yaml\n" * tries
    assert not (job / "scontrol").exists()


@pytest.mark.parametrize(
    ("sent", "code", "queued"), [(signal.SIGINT, 0, "requeue 7\n"), (signal.SIGTERM, 130, "")]
)
def test_a_walltime_queues_it_again_and_scancel_does_not(job, sent, code, queued):
    process = started(job, 4)
    wait_for((job / "waits").exists)
    process.send_signal(sent)
    assert process.wait() == code
    actual = job / "scontrol"
    assert (actual.read_text() if actual.exists() else "") == queued
