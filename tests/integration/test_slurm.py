"""Runs whose blocks are done in jobs of a real Slurm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.engine.runs import files, planned, toy
from volflow.engine.profile import Profile, find_profile
from volflow.engine.run import execute
from volflow.engine.watch import Watcher
from volflow.errors import ClusterError

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]

JOB = "--format=%A|%P|%T|%N"


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def jobs(partition: str) -> dict[str, str]:
    """The jobs at work in a partition, and their nodes."""
    rows = [line.split("|") for line in ask("squeue", "-h", JOB).splitlines()]
    return {
        job: node for job, where, state, node in rows if (where, state) == (partition, "RUNNING")
    }


def state(job: str) -> str:
    found = re.search(r"JobState=(\w+)", ask("scontrol", "show", "job", job))
    assert found
    return found.group(1)


def profile(folder: Path, **changes: object) -> Profile:
    cpu = {"workers": 2, "memory": "600 MB", "walltime": "00:05:00", "partition": "cpu"}
    gpu = {**cpu, "workers": 1, "partition": "gpu", "gpus": 1, **changes}
    path = folder / "site.yaml"
    path.write_text(
        yaml.safe_dump({"cluster": "slurm", "interface": "lo", "pools": {"cpu": cpu, "gpu": gpu}})
    )
    return find_profile(str(path))


class Weather(Watcher):
    """What happens to the jobs of a step of 48 blocks on a bad day."""

    def __init__(self) -> None:
        self.timed_out = self.cancelled = self.down = ""
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, step, result, sweep) -> None:
        running = jobs("cpu") if step.name == "index" else {}
        others = {job: node for job, node in running.items() if job != self.timed_out}
        if not self.timed_out and running:
            self.timed_out = min(running)
            ask("scontrol", "update", f"JobId={self.timed_out}", "EndTime=now")
        elif not self.cancelled and others and result.done > 8:
            self.cancelled = min(others)
            ask("scancel", self.cancelled)
        elif not self.down and result.done > 20 and set(others) - {self.cancelled}:
            self.down = min(set(others) - {self.cancelled})
            ask("scontrol", "update", f"NodeName={running[self.down]}", "State=DOWN", "Reason=test")
        elif self.down and result.done > 36:
            deadline = time.monotonic() + 60  # Slurm looks for such jobs every half minute
            while state(self.timed_out) != "TIMEOUT" and time.monotonic() < deadline:
                time.sleep(0.5)


def test_jobs_that_end_cost_nothing_but_time(slurm, tmp_path):
    slow = {"seconds": 0.6}
    again = toy("Index", out={"index": "again"}, pool="gpu", **{"with": {"seconds": 0.5}})
    steps = (toy("Index", **{"with": slow}), toy("Double"), {**again, "name": "again"})
    here, there = tmp_path / "here", tmp_path / "there"
    weather = Weather()
    try:
        site = profile(tmp_path, walltime="00:01:00", lifetime="00:00:20")
        result = execute(planned(there, *steps), cluster=site, watcher=weather)
    finally:
        for node in ("n0", "n1"):
            subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=False)
    assert result.failures == []
    assert result.ok
    assert state(weather.timed_out) == "TIMEOUT"
    assert state(weather.cancelled) == "CANCELLED"
    assert state(weather.down) == "NODE_FAIL"
    logs = there / "logs"
    assert f"the workers' logs are in {logs}" in weather.notes
    lived = [path for path in logs.glob("volflow-gpu-*.err") if "lifetime" in path.read_text()]
    assert lived  # workers that left before their walltime, and others came after them

    fast = tuple({**step, "with": {}} for step in steps)
    assert execute(planned(here, *fast)).ok
    for name in ("index", "double", "again"):
        alone, many = files(here / name), files(there / name)
        owners = [key for key in alone if "owner" in key]  # they name the parameters
        assert len(alone) > 40
        assert {k: v for k, v in alone.items() if k not in owners} == {
            k: v for k, v in many.items() if k not in owners
        }
    assert_nothing_left(there)


def assert_nothing_left(run: Path) -> None:
    """No job, no key and no process of a run is left."""
    deadline = time.monotonic() + 30
    while ask("squeue", "-h", "--format=%j").count("volflow-") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "volflow-" not in ask("squeue", "-h", "--format=%j")
    assert not (run / "volflow-keys").exists()
    place = str(run)
    while (left := _of(place)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def _of(place: str) -> list[str]:
    """Command lines of processes that name a place: workers name the keys there."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if place in line and process.pid != os.getpid():
            found.append(line)
    return found


def test_jobs_that_come_to_nothing_end_the_run_with_what_they_said(slurm, tmp_path):
    site = profile(tmp_path)
    broken = site.pools["cpu"].model_copy(update={"prologue": ("echo no such disk >&2", "exit 3")})
    site = site.model_copy(update={"pools": {"cpu": broken}})
    plan = planned(tmp_path / "run", toy("Index"))
    with pytest.raises(ClusterError, match=r"(?s)ended before a worker came.*no such disk.*logs"):
        execute(plan, cluster=site)
    assert_nothing_left(tmp_path / "run")


PIPELINE = """
run: {run}
bounds: "0:48,0:48,0:48"
resolution: [8, 8, 8]
block: [24, 24, 24]
volumes: {{}}
steps:
  - use: synth
  - use: fragments
  - {{use: agglomerate, pool: gpu, with: {{threshold: 0.3}}}}
  - use: relabel
"""


def test_a_driver_that_is_a_job_makes_what_one_process_makes(slurm, tmp_path):
    import volflow

    profile(tmp_path)
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE.format(run=tmp_path / "there"))
    script = Path(__file__).parents[2] / "deploy" / "slurm" / "driver.sbatch"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sbatch", "--wait", "--mem=1G", f"--output={tmp_path}/driver.log", str(script)]
    done = subprocess.run(
        [*command, str(pipeline), "--cluster", str(tmp_path / "site.yaml")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (tmp_path / "driver.log").read_text()
    assert volflow.run(str(pipeline), overrides=[f"run={tmp_path / 'here'}"]).ok
    here, there = (files(tmp_path / side / "segmentation") for side in ("here", "there"))
    assert len(here) > 8
    assert here == there
    assert_nothing_left(tmp_path / "there")
