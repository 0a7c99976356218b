"""Runs whose blocks are done in jobs of a real Slurm."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.runs import files, planned, toy, wait_for
from tests.integration.slurm_site import (
    ENDED,
    Noting,
    ask,
    assert_nothing_left,
    jobs,
    profile,
    resume_nodes,
    set_node,
    state,
    told_of,
)
from volflow.config.pipeline import dump
from volflow.engine.driver import execute
from volflow.engine.job import Plan
from volflow.engine.worker.block_range import job_path
from volflow.errors import ClusterError
from volflow.io.run.ledger import Ledger

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]


class Weather(Noting):
    """A step of 48 blocks whose jobs fail in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.timed_out = self.cancelled = self.down = ""

    def progress(self, step, result, phase) -> None:
        if step.name != "index":
            return
        if not self.timed_out:
            self.timed_out, _ = at_work()
            ask("scontrol", "update", f"JobId={self.timed_out}", "EndTime=now")
        elif not self.cancelled and result.done > 8:
            self.cancelled, _ = at_work(self.timed_out)
            ask("scancel", self.cancelled)
        elif not self.down and result.done > 20:
            self.down, node = at_work(self.timed_out, self.cancelled)
            set_node(node, "DOWN")
        elif self.down and result.done > 36:  # Slurm looks every half minute whose time is over
            wait_for(lambda: state(self.timed_out) == "TIMEOUT", 300)
            wait_for(lambda: state(self.down) == "NODE_FAIL", 300)
            resume_nodes()


def at_work(*but: str) -> tuple[str, str]:
    """A job of the pool `cpu` that is none of these, and its node; waited for."""
    actual: list[tuple[str, str]] = []

    def look() -> bool:
        actual[:] = sorted((job, node) for job, node in jobs("cpu").items() if job not in but)
        return bool(actual)

    wait_for(look, 300)
    return actual[0]


@contextlib.contextmanager
def held_until(happened: Callable[[], object], held: Path) -> Iterator[None]:
    """A file that is there until something happened."""
    held.touch()
    over = threading.Event()

    def watch() -> None:
        while not (over.wait(0.5) or happened()):
            pass
        held.unlink()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def test_jobs_that_end_cost_nothing_but_time(slurm, tmp_path, caplog):
    here, there, held = (tmp_path / name for name in ("here", "there", "held"))
    slow, holds = {"with": {"seconds": 0.4}}, {"with": {"held_by": str(held)}}
    again = toy("Index", out={"index": "again"}, pool="gpu", **holds)
    steps = (toy("Index", **slow), toy("Double"), {**again, "name": "again"})
    weather, logs = Weather(), there / "logs"

    def lived() -> bool:
        """Whether a worker left because its lifetime was over."""
        return any("lifetime" in path.read_text() for path in logs.glob("volflow-gpu-*.err"))

    try:
        site = profile(tmp_path, gpu={"walltime": "00:01:00", "lifetime": "00:00:30"})
        with held_until(lived, held):
            result = execute(planned(there, *steps), cluster=site, observer=weather)
    finally:
        resume_nodes()
    assert result.failures == []
    assert result.ok
    assert state(weather.timed_out) == "TIMEOUT"
    assert state(weather.cancelled) == "CANCELLED"
    assert state(weather.down) == "NODE_FAIL"
    assert f"the workers' logs are in {logs}" in weather.notes
    assert lived()  # before the walltime, and others came after them
    # They were not lost, but where Dask could not let one go, because its last result was not
    # fetched yet and no worker was there for it.
    lost = [name for name in weather.lost if name.startswith("gpu")]
    assert len(lost) <= caplog.text.count("Could not retire worker")

    fast = tuple({**step, "with": {}} for step in steps)
    assert execute(planned(here, *fast)).ok
    for name in ("index", "double", "again"):
        alone, many = of_layer(here / name), of_layer(there / name)
        assert len(alone) > 40
        assert alone == many
    assert_nothing_left(there)


def of_layer(folder: Path) -> dict[str, bytes]:
    """The files of a layer but for its owner, which names the step's parameters."""
    return {name: held for name, held in files(folder).items() if "owner" not in name}


def test_jobs_that_come_to_nothing_end_the_run_with_what_they_said(slurm, tmp_path):
    site = profile(tmp_path)
    broken = site.pools["cpu"].model_copy(update={"prologue": ("echo no such disk >&2", "exit 3")})
    site = site.model_copy(update={"pools": {"cpu": broken}})
    plan = planned(tmp_path / "run", toy("Index"))
    with pytest.raises(
        ClusterError, match=r"(?s)ended before their worker joined.*no such disk.*logs"
    ):
        execute(plan, cluster=site)
    assert_nothing_left(tmp_path / "run")


def blocks_done(plan: Plan) -> set[int]:
    """The blocks of the first step that are marked."""
    job = plan.steps[0].jobs[0]
    done = Ledger(plan.pipeline.run).done(job_path(job))
    return {number for start, stop in done for number in range(start, stop)}


def test_a_driver_that_is_a_job_goes_on_when_its_node_is_lost(slurm, tmp_path):
    trace, held = tmp_path / "trace", tmp_path / "held"
    trace.mkdir()
    held.touch()
    settings = {"trace": str(trace), "held_by": str(held)}
    steps = (toy("Index", **{"with": settings}), toy("Double"), toy("Total"))
    plan = planned(tmp_path / "there", *steps)
    profile(tmp_path, cpu={"workers": 1})
    (tmp_path / "pipeline.yaml").write_text(dump(plan.pipeline))
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
    }
    options = ["--parsable", "--mem=1G", f"--output={tmp_path}/driver.log"]
    script = str(root / "deploy" / "slurm" / "driver.sbatch")
    printed = [str(tmp_path / "pipeline.yaml"), "--cluster", str(tmp_path / "site.yaml")]

    def half_way() -> bool:
        """Whether some blocks are marked, and one that waits has started."""
        return bool(blocks_done(plan)) and any(trace.glob("2-*"))

    job = ask("sbatch", *options, script, *printed, environment=environment).strip()
    try:
        wait_for(lambda: half_way() or state(job) in ENDED, 600)
        assert state(job) == "RUNNING", (tmp_path / "driver.log").read_text()
        node, marked = told_of(job, "NodeList"), blocks_done(plan)
        set_node(node, "DOWN")
        wait_for(lambda: told_of(job, "Restarts") == "1", 600)
    finally:
        held.unlink()
        resume_nodes()
    wait_for(lambda: state(job) in ENDED, 600)
    assert state(job) == "COMPLETED", (tmp_path / "driver.log").read_text()
    assert 1 <= len(marked) < 48
    done = Counter(path.name.partition(".")[0] for path in trace.iterdir())
    grid = plan.steps[0].jobs[0].phase.grid
    assert {done["-".join(map(str, grid.index(number)))] for number in marked} == {1}

    plain = (toy("Index"), *steps[1:])
    assert execute(planned(tmp_path / "here", *plain)).ok
    for name in ("index", "double", "results"):
        here, there = (of_layer(tmp_path / side / name) for side in ("here", "there"))
        assert len(here) >= 1
        assert here == there
    assert_nothing_left(tmp_path / "there")
