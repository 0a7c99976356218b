"""Status of a run, as other processes read it."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from tests.engine.runs import planned, toy
from volflow.engine.driver import execute
from volflow.engine.invalidate import invalidate, with_dependents
from volflow.engine.monitor.status import as_json, status
from volflow.engine.monitor.watchdog import PROGRESS
from volflow.errors import PlanError, RunHeld
from volflow.io.run.lock import RunLock
from volflow.io.store import Store

STEPS = (toy("Index"), toy("Double"), toy("Blur"), toy("Total"))


def parts(step):
    return step.done, step.failed, step.running, step.blocked, step.left


def test_what_is_behind_a_failed_block_is_blocked(tmp_path):
    poison = toy("Poison", **{"with": {"raises": [[0, 0, 1], [3, 2, 3]]}})
    execute(planned(tmp_path, poison, toy("Double")))
    actual = status(str(tmp_path))
    assert [parts(step) for step in actual.steps] == [(46, 2, 0, 0, 0), (0, 0, 0, 48, 0)]
    assert [step.causes for step in actual.steps] == [{"exception": 2}, {}]
    assert not actual.finished
    assert actual.holder is None
    document = as_json(actual)
    assert [each["index"] for each in document["failures"]] == [[0, 0, 1], [3, 2, 3]]
    for step in document["steps"]:
        counted = ("done", "failed", "running", "blocked", "left")
        assert sum(step[name] for name in counted) == step["total"]


def test_a_run_that_was_never_started_is_left_not_blocked(tmp_path):
    execute(planned(tmp_path, *STEPS, only="index"))
    steps = status(str(tmp_path)).steps
    assert parts(steps[0]) == (48, 0, 0, 0, 0)
    assert all(parts(step) == (0, 0, 0, 0, step.total) for step in steps[1:])


@pytest.mark.cluster
@pytest.mark.parametrize("cluster", ["none", "local"])
def test_a_block_that_takes_long_is_in_the_status_with_its_time_and_worker(tmp_path, cluster):
    run, held = tmp_path / "run", tmp_path / "held"
    held.touch()
    states, over = [], threading.Event()

    def watch():
        while not over.wait(0.2):
            with contextlib.suppress(PlanError):  # not started yet
                states.append(status(str(run)))
                if states[-1].blocks and states[-1].blocks[0].seconds > 1.5:
                    held.unlink(missing_ok=True)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        plan = planned(run, toy("Index", **{"with": {"held_by": str(held)}}))
        assert execute(plan, cluster=cluster, workers=1 if cluster == "local" else None).ok
    finally:
        over.set()
        thread.join()
    block = next(state.blocks[0] for state in states if state.blocks)
    assert (block.step, block.phase) == ("index", "map")
    assert (3, 8) in {state.blocks[0].parts for state in states if state.blocks}
    assert block.worker == {"none": "this process", "local": "worker-0"}[cluster]
    assert (block.memory > 10**7) == (cluster == "local")
    assert as_json(next(state for state in states if state.blocks))["blocks"]


@pytest.mark.cluster
def test_during_a_run_handed_out_blocks_are_running_and_all_add_up(tmp_path):
    run, held = tmp_path / "run", tmp_path / "held"
    held.touch()
    seen, over = [], threading.Event()

    def half_way(actual):
        return actual.steps[0].running > 0 and actual.blocks_per_second > 0 and actual.seconds_left

    def ask():
        while not over.wait(0.2):
            with contextlib.suppress(PlanError):  # not started yet
                seen.append(status(str(run)))
                if half_way(seen[-1]):
                    held.unlink(missing_ok=True)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        plan = planned(run, toy("Index", **{"with": {"held_by": str(held)}}))
        assert execute(plan, cluster="local", workers=2).ok
    finally:
        over.set()
        asking.join()
    assert any(half_way(actual) for actual in seen)
    for actual in seen:
        assert actual.steps[0].left >= 0
        assert sum(parts(actual.steps[0])) == actual.steps[0].total
    after = status(str(run))
    assert after.finished
    assert Store(str(run)).read(PROGRESS) is None


def test_what_a_dead_driver_last_said_counts_no_more(tmp_path):
    execute(planned(tmp_path, *STEPS, only="index"))
    store = Store(str(tmp_path))
    path = f"double/{planned(tmp_path, *STEPS).step('double').digest}/map"
    body = {"time": time.time(), "job": path, "step": "double", "under_way": [[0, 8]]}
    store.write_json(PROGRESS, body)
    assert parts(status(str(tmp_path)).steps[1]) == (0, 0, 0, 0, 48)
    with RunLock(str(tmp_path)):
        assert parts(status(str(tmp_path)).steps[1]) == (0, 0, 8, 0, 40)
        store.write_json(PROGRESS, {**body, "time": time.time() - 600})
        assert parts(status(str(tmp_path)).steps[1]) == (0, 0, 0, 0, 48)


def test_what_reads_a_step_through_others_depends_on_it(tmp_path):
    more = {"name": "more", "in": {"index": "double"}, "out": {"double": "quadruple"}}
    chain = (toy("Index"), toy("Double"), {**toy("Double"), **more})
    assert execute(planned(tmp_path, *chain)).ok
    assert with_dependents(str(tmp_path), "index") == ["index", "double", "more"]
    assert with_dependents(str(tmp_path), "more") == ["more"]


def test_an_invalidated_step_and_what_reads_it_are_done_again_and_nothing_else(tmp_path):
    assert execute(planned(tmp_path, *STEPS)).ok
    assert with_dependents(str(tmp_path), "double") == ["double"]
    assert with_dependents(str(tmp_path), "index") == ["index", "double", "blur", "total"]
    invalidate(str(tmp_path), "blur")
    done = {step.name: step.done for step in status(str(tmp_path)).steps}
    assert done["index"] == 48
    assert done["double"] == 48
    assert done["blur"] == 0
    assert (tmp_path / "blur").exists()
    again = execute(planned(tmp_path, *STEPS))
    assert again.ok
    already = {step.name: step.already for step in again.steps}
    assert already == {**already, "index": 48, "double": 48, "blur": 0}
    invalidate(str(tmp_path), "index")
    assert all(step.done == 0 for step in status(str(tmp_path)).steps)


def test_a_run_that_is_held_is_not_invalidated(tmp_path):
    execute(planned(tmp_path, toy("Index")))
    with RunLock(str(tmp_path)), pytest.raises(RunHeld):
        invalidate(str(tmp_path), "index")
    assert status(str(tmp_path)).finished
    with pytest.raises(PlanError, match=r"there is no step 'indx'.*did you mean 'index'"):
        invalidate(str(tmp_path), "indx")
