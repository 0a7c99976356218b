"""Blocks that end their process, workers and drivers that die."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.engine.runs import (
    block_children,
    expected_index,
    files,
    layer,
    planned,
    toy,
    wait_for,
)
from volflow.engine.driver import execute, prepare
from volflow.engine.executors.connect import connect
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.status import status
from volflow.engine.worker.child_death import Limits
from volflow.engine.worker.child_process import Child
from volflow.engine.worker.ledger_outcome import outcome_by_ledger

pytestmark = pytest.mark.cluster

PATIENCE = 10.0  # seconds for a block; the first one of a child loads the libraries, too


def test_each_poison_block_is_named_with_its_reason_and_the_others_are_done(tmp_path):
    settings = {
        "raises": [[0, 0, 1]],
        "segfaults": [[1, 0, 0]],
        "exits": [[1, 1, 1]],
        "killed": [[2, 0, 3]],
        "hangs": [[3, 2, 2]],
    }
    plan = planned(tmp_path, toy("Poison", **{"with": settings}), toy("Double"))
    result = execute(plan, cluster="local", workers=2, timeout=PATIENCE)
    reasons = {failure.index: (failure.reason, failure.error) for failure in result.failures}
    assert {index: reason for index, (reason, _) in reasons.items()} == {
        (0, 0, 1): "exception",
        (1, 0, 0): "signal",
        (1, 1, 1): "exit",
        (2, 0, 3): "signal",
        (3, 2, 2): "timeout",
    }
    assert "SIGSEGV" in reasons[1, 0, 0][1]
    assert "exit code 7" in reasons[1, 1, 1][1]
    assert "SIGKILL" in reasons[2, 0, 3][1]
    hung = next(failure for failure in result.failures if failure.reason == "timeout")
    assert "misbehave" in hung.traceback  # faulthandler's stack
    assert result.steps[0].done == 43
    assert result.steps[0].left == 0
    assert not result.steps[1].started
    assert [(s.done, s.failed, s.blocked + s.left) for s in status(str(tmp_path)).steps] == [
        (43, 5, 0),
        (0, 0, 48),
    ]
    assert block_children() == []


def test_a_block_that_eats_memory_is_stopped(tmp_path):
    plan = planned(tmp_path, toy("Poison", **{"with": {"eats": [[0, 0, 2]]}}))
    job = plan.steps[0].jobs[0]
    from volflow.engine.driver import prepare

    prepare(plan.pipeline.run, plan.steps[0])
    child = Child(plan.search_path)
    outcome = child.run(job, 0, 6, Limits(memory=600 * 2**20))
    child.close()
    assert [(f.index, f.reason) for f in outcome.failures] == [((0, 0, 2), "memory")]
    assert "more than 629.1 MB" in outcome.failures[0].error
    assert outcome.done == 5


@pytest.mark.parametrize("end", ["exit", "killed", "nothing"])
def test_a_child_that_has_forked_ends_with_what_it_forked(tmp_path, end):
    helper = tmp_path / "helper"
    settings = {"helper": str(helper), "end": end}
    plan = planned(tmp_path / "run", toy("Forking", **{"with": settings}))
    prepare(plan.pipeline.run, plan.steps[0])
    child = Child(plan.search_path)
    started = time.monotonic()
    outcome = child.run(plan.steps[0].jobs[0], 0, 4, Limits())
    reasons = {"exit": ["exit"], "killed": ["signal"], "nothing": []}[end]
    assert [failure.reason for failure in outcome.failures] == reasons
    assert outcome.done == 4 - len(reasons)
    child.close()
    assert time.monotonic() - started < 60
    for pid in map(int, helper.read_text().split()):
        wait_for(lambda pid=pid: not psutil.pid_exists(pid), 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_local_workers_write_the_same_files_as_this_process(tmp_path, workers):
    steps = (toy("Index"), toy("Double"), toy("Blur"), toy("Total"))
    assert execute(planned(tmp_path / "here", *steps)).ok
    notes = []

    class Noting(RunObserver):
        def note(self, text):
            notes.append(text)

    there = planned(tmp_path / "there", *steps)
    assert execute(there, cluster="local", workers=workers, observer=Noting()).ok
    for name in ("index", "double", "blur", "records"):
        here = files(tmp_path / "here" / name)
        assert len(here) > 40
        skipped = [key for key in here if "owner" in key]
        there = files(tmp_path / "there" / name)
        assert {k: v for k, v in here.items() if k not in skipped} == {
            k: v for k, v in there.items() if k not in skipped
        }
    assert any("http://127.0.0.1" in note for note in notes)


def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    trace = tmp_path / "trace"
    trace.mkdir()
    killed = []

    class Killer(RunObserver):
        def progress(self, step, result, phase):
            if len(killed) < 2 and result.done > 5 * (len(killed) + 1):
                for _, worker in block_children()[:1]:
                    killed.append(worker)
                    os.kill(worker, signal.SIGKILL)

    settings = {"trace": str(trace), "seconds": 0.05}
    plan = planned(tmp_path / "run", toy("Index", **{"with": settings}), toy("Double"))
    result = execute(plan, cluster="local", workers=2, observer=Killer())
    assert len(killed) == 2
    assert result.ok
    assert result.failures == []
    np.testing.assert_array_equal(layer(tmp_path / "run", "index"), expected_index())
    np.testing.assert_array_equal(layer(tmp_path / "run", "double"), 2 * expected_index())


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.engine.runs import planned, toy
from volflow.engine.driver import execute, prepare
if __name__ == "__main__":
    plan = planned(Path({run!r}), toy("Index", **{{"with": {settings!r}}}), toy("Double"))
    execute(plan, cluster="local", workers=2)
"""


def test_a_killed_driver_leaves_no_process_and_a_run_that_resumes(tmp_path):
    import tests

    root = os.path.dirname(os.path.dirname(tests.__file__))
    trace, run = tmp_path / "trace", tmp_path / "run"
    trace.mkdir()
    script = tmp_path / "driver.py"
    held = tmp_path / "held"
    held.touch()
    settings = {"trace": str(trace), "held_by": str(held)}
    plan = planned(run, toy("Index", **{"with": settings}), toy("Double"))
    script.write_text(DRIVER.format(root=root, run=str(run), settings=settings))
    driver = subprocess.Popen([sys.executable, str(script)])
    try:
        wait_for(lambda: len(list(trace.iterdir())) >= 16 and _done(plan))
        family = psutil.Process(driver.pid).children(recursive=True)
        assert driver.poll() is None
    finally:
        driver.kill()
        driver.wait()
    gone, alive = psutil.wait_procs(family, timeout=120)
    assert len(gone) >= 3  # two workers, and a child at least
    assert alive == []

    held.unlink()
    marked = {
        plan.steps[0].jobs[0].phase.grid.index(number)
        for start, stop in _done(plan)
        for number in range(start, stop)
    }
    assert marked
    count = {index: _times(trace, index) for index in marked}
    assert execute(plan).ok
    assert {index: _times(trace, index) for index in marked} == count
    np.testing.assert_array_equal(layer(run, "index"), expected_index())
    np.testing.assert_array_equal(layer(run, "double"), 2 * expected_index())


def _done(plan):
    from volflow.engine.worker.block_range import job_path
    from volflow.io.run.ledger import Ledger

    return Ledger(plan.pipeline.run).done(job_path(plan.steps[0].jobs[0]))


def _times(trace, index):
    return len(list(trace.glob("-".join(map(str, index)) + ".*")))


def test_what_the_ledger_says_of_a_lost_range(tmp_path):
    plan = planned(tmp_path, toy("Poison", **{"with": {"raises": [[0, 0, 2]]}}))
    execute(plan)
    outcome = outcome_by_ledger(plan.steps[0].jobs[0], (0, 8))
    assert outcome.done == 7
    assert [failure.index for failure in outcome.failures] == [(0, 0, 2)]
    assert outcome.again == []


def test_an_unknown_cluster_is_refused():
    from volflow.errors import PlanError

    with (
        pytest.raises(PlanError, match="there is no cluster profile 'lokal'; did you mean 'local'"),
        connect("lokal"),
    ):
        pass


TRIM, HEAPS = "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ({TRIM: "65536"}, {HEAPS: "2"}),
        ({TRIM: "131072", HEAPS: "5"}, {TRIM: "131072", HEAPS: "5"}),
    ],
)
def test_of_mallocs_settings_the_users_reach_the_blocks_and_dasks_do_not(monkeypatch, given, there):
    monkeypatch.delenv(HEAPS, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    child = Child(())
    try:
        child.start()
        place = Path(f"/proc/{child.process.pid}/environ")
        wait_for(lambda: b"PATH=" in place.read_bytes())  # it has become the new program
        text = place.read_bytes().decode()
    finally:
        child.close()
    actual = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    assert {name: actual[name] for name in (TRIM, HEAPS) if name in actual} == there


KEEPS = """
from pathlib import Path
from volflow.engine.worker.memory import trim_heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

arrays = [bytearray(60_000) for _ in range(1000)]
last = bytearray(60_000)  # the C library does not return the memory below it by itself
del arrays
before = resident()
trim_heap()
print(before - resident())
"""


def test_memory_that_blocks_freed_goes_back():
    actual = subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, check=True)
    assert int(actual.stdout) > 50_000_000


def test_what_a_stage_needs_is_loaded_by_the_child_alone(tmp_path, monkeypatch):
    """A worker holds no second copy of torch."""
    (tmp_path / "code").mkdir()
    text = "from tests.engine.toys import Index\nclass Lone(Index):\n    pass\n"
    (tmp_path / "code" / "lone_stage.py").write_text(text)
    with monkeypatch.context() as there:
        there.syspath_prepend(str(tmp_path / "code"))
        plan = planned(tmp_path / "run", {"use": "lone_stage:Lone", "name": "index"})
        prepare(plan.pipeline.run, plan.steps[0])
        payload = pickle.dumps(plan.steps[0].jobs[0])
    monkeypatch.delitem(sys.modules, "lone_stage")
    child = Child((str(tmp_path / "code"),))
    try:
        outcome = child.run(payload, 0, 3)
    finally:
        child.close()
    assert (outcome.done, outcome.failures) == (3, [])
    assert "lone_stage" not in sys.modules
