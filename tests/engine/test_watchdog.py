"""A run in which nothing is finished any more."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest

from tests.engine.runs import expected_index, layer, planned, toy
from volflow.engine import watchdog
from volflow.engine.cluster import connect
from volflow.engine.events import EventLog, read_events
from volflow.engine.ranges import Outcome
from volflow.engine.run import execute, prepare
from volflow.engine.watch import Watcher
from volflow.engine.watchdog import Watchdog


class Frozen:
    """A crew that holds two ranges and finishes none."""

    def under_way(self):
        return {(8, 16): "", (0, 8): "tcp://there"}

    def workers(self):
        return ["tcp://there"]

    def restart(self):
        raise AssertionError("nobody asked for that")


class Told(Watcher):
    def __init__(self):
        self.stalled, self.changes = [], []

    def stalls(self, step, seconds, under_way):
        self.stalled.append((step, seconds, list(under_way)))

    def workers_change(self, joined, lost):
        self.changes.append((list(joined), list(lost)))


def wait(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_a_stall_is_told_with_what_is_where_and_told_again_later_and_later(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK", 0.02)
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    told = Told()
    with Watchdog(str(tmp_path), Frozen(), told, EventLog(str(tmp_path)), stall=0.1) as dog:
        time.sleep(0.3)
        assert told.stalled == [], "nothing is under way"
        dog.begins(job)
        wait(lambda: len(told.stalled) == 3)
        dog.finished(Outcome(done=1))
        wait(lambda: len(told.stalled) == 4)
    assert told.changes == [(["tcp://there"], [])]
    seconds = [each[1] for each in told.stalled]
    assert seconds[1] >= 2 * seconds[0]
    assert seconds[2] >= 2 * seconds[1]
    assert seconds[3] < seconds[2], "the clock starts again when something is finished"
    step, _, places = told.stalled[0]
    assert step == "index"
    assert places == [
        "index map: blocks 0 to 7, from 0 0 0: tcp://there",
        "index map: blocks 8 to 15, from 0 2 0: no worker has taken it",
    ]
    assert dog.ended == ""


def test_a_run_that_hangs_is_ended_where_that_is_asked_for_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK", 0.05)
    cure = tmp_path / "cure"
    settings = {"hangs": [[1, 0, 0]], "cured_by": str(cure)}
    plan = planned(tmp_path / "run", toy("Poison", **{"with": settings}))
    result = execute(plan, stall=1.0, on_stall="end")
    assert result.interrupted
    assert not result.ok
    assert "step 'poison': nothing was finished for" in result.stalled
    assert result.failures == []
    ends = [e for e in read_events(plan.pipeline.run) if e["event"] in ("stall", "run_ends")]
    assert [event["event"] for event in ends] == ["stall", "run_ends"]
    assert ends[1]["error"] == result.stalled
    cure.touch()
    again = execute(plan)
    assert again.ok
    assert again.steps[0].already >= 9


@pytest.mark.cluster
def test_a_worker_that_froze_is_started_anew_and_its_blocks_are_done(tmp_path):
    plan = planned(tmp_path, toy("Index", **{"with": {"seconds": 0.05}}))
    step = plan.steps[0]
    prepare(plan.pipeline.run, step)
    frozen, outcomes = [], []
    with connect("local", workers=1, search_path=plan.search_path) as crew:

        def report(outcome):
            outcomes.append(outcome)
            if not frozen:
                for process in psutil.Process().children(recursive=True):
                    if "volflow.engine.child" in process.cmdline():
                        frozen.append(process.ppid())
                        os.kill(process.ppid(), signal.SIGSTOP)
                threading.Timer(1.0, crew.restart).start()

        crew.run(step.jobs[0], [(0, 48)], report)
    assert len(frozen) == 1
    assert sum(outcome.done for outcome in outcomes) == 48
    assert any(outcome.again for outcome in outcomes)
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    np.testing.assert_array_equal(layer(tmp_path, "index"), expected_index())
