"""Tasks and drivers that lost their run write nothing more."""

import dataclasses
import json
import threading
from collections import Counter

import pytest

from tests.engine.runs import files, planned, toy, wait_for
from volflow.engine.driver import execute, prepare
from volflow.engine.phases.registry import run_block
from volflow.engine.worker.block_range import run_range
from volflow.engine.worker.child_death import Death, record_death
from volflow.engine.worker.child_process import Child
from volflow.engine.worker.outcome import Outcome
from volflow.engine.worker.shared_progress import PageContent
from volflow.errors import RunHeld
from volflow.io.run import fence
from volflow.io.run.lock import KEY, RunLock
from volflow.io.store import Store


def take_over(run):
    """Replace the lock object as a driver on another machine does."""
    Store(str(run)).write_json(KEY, {"host": "far", "pid": 1, "place": "far", "token": "other"})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(fence, "PAUSE", 0.0)


def stale(plan, number=0):
    """A job of the plan's last step, handed out by a driver that lost the run afterwards."""
    run = plan.pipeline.run
    with RunLock(run) as lock:
        for step in plan.steps:
            prepare(run, step)
        job = dataclasses.replace(plan.steps[-1].jobs[number], fence=lock.token)
        assert run_range(job, 0, 1).done == 1
    take_over(run)
    return job


@pytest.mark.parametrize("step", ["Index", "Total", "Poison"])
def test_a_stale_task_writes_marks_and_records_nothing(tmp_path, step):
    steps = [toy(step)]
    if step == "Poison":  # its failure would be recorded
        steps = [toy(step, **{"with": {"raises": [[0, 0, 1]]}})]
    elif step == "Total":
        steps = [toy("Index"), toy(step)]
        execute(planned(tmp_path, *steps[:1]))
    job = stale(planned(tmp_path, *steps))
    before = files(tmp_path)
    with pytest.raises(RunHeld, match="process 1 on far"):
        run_range(job, 1, 3)
    assert files(tmp_path) == before


@pytest.mark.parametrize("step", ["Index", "Poison", "Total"])
def test_the_lock_is_read_again_before_each_write(tmp_path, monkeypatch, step):
    steps = [toy(step, **({"with": {"raises": [[0, 0, 1]]}} if step == "Poison" else {}))]
    if step == "Total":
        steps = [toy("Index"), *steps]
        execute(planned(tmp_path, *steps[:1]))
    job = stale(planned(tmp_path, *steps))
    monkeypatch.setattr(fence, "CHECKED_FOR", -1.0)
    Store(job.run).write_json(KEY, {"token": job.fence})
    written = {}

    def run_block_after_takeover(*arguments):
        take_over(job.run)
        written.update(files(tmp_path))
        return run_block(*arguments)

    place = "volflow.engine.worker.block_range.run_block"
    monkeypatch.setattr(place, run_block_after_takeover)
    with pytest.raises(RunHeld):
        run_range(job, 1, 3)
    assert files(tmp_path) == written


def test_a_block_that_ends_the_child_of_a_stale_task_is_not_recorded(tmp_path):
    job = stale(planned(tmp_path, toy("Poison", **{"with": {"exits": [[0, 0, 1]]}})))
    before = files(tmp_path)
    child = Child(())
    try:
        child.start()
        with pytest.raises(RunHeld):  # the child refuses the range
            child.run(job, 1, 3, child.limits)
        death = Death(PageContent(1, 0, 0.0, -1, 0, 0), "exit", 1, child.limits)
        with pytest.raises(RunHeld):  # and its parent does not record the block
            record_death(job, death, 0, total=Outcome(), kills=Counter(), log="")
    finally:
        child.close()
    assert files(tmp_path) == before


@pytest.mark.parametrize("cluster", ["none", pytest.param("local", marks=pytest.mark.cluster)])
def test_a_driver_whose_run_was_taken_over_ends_without_writing(tmp_path, cluster):
    trace, held = tmp_path / "trace", tmp_path / "held"
    trace.mkdir()
    held.touch()
    run = tmp_path / "run"
    settings = {"trace": str(trace), "held_by": str(held), "held_from": 0}
    plan = planned(run, toy("Index", **{"with": settings}))
    errors = []

    def drive():
        try:
            execute(plan, cluster=cluster, workers=1)
        except RunHeld as error:
            errors.append(str(error))

    driver = threading.Thread(target=drive)
    driver.start()
    wait_for(lambda: list(trace.iterdir()))
    take_over(run)  # long before the next heartbeat
    before = [*(run / "index").rglob("*"), *run.glob("ledger/**/*")]
    held.unlink()
    driver.join()
    assert "process 1 on far" in errors[0]
    assert [*(run / "index").rglob("*"), *run.glob("ledger/**/*")] == before
    assert json.loads((run / KEY).read_text())["token"] == "other"
    assert len(list(trace.iterdir())) <= 2  # the block under way, and on a worker its prefetch


def test_a_check_before_a_sleep_of_the_machine_does_not_count_after_it(tmp_path, monkeypatch):
    clock = 100.0
    monkeypatch.setattr(fence, "_now", lambda: clock)
    with RunLock(str(tmp_path)) as lock:
        fence.require_fence(str(tmp_path), lock.token, recheck=False)
        take_over(tmp_path)
        fence.require_fence(str(tmp_path), lock.token, recheck=False)  # as if at the same time
        clock = 101.0
        with pytest.raises(RunHeld):
            fence.require_fence(str(tmp_path), lock.token, recheck=False)


def test_a_lock_object_that_is_seen_late_is_read_again(tmp_path, monkeypatch):
    run = str(tmp_path)
    take_over(run)
    calls = []

    def appear(seconds):
        calls.append(seconds)
        Store(run).write_json(KEY, {"token": "mine"})

    monkeypatch.setattr("volflow.io.run.fence.time.sleep", appear)
    fence.require_fence(run, "mine")
    assert len(calls) == 1
