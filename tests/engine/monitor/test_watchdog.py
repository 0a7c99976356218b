"""Stalls of a run, workers that are lost, and the blocks under way."""

from __future__ import annotations

import os
import signal
import threading
import types

import numpy as np
import pytest

from tests.engine import toys
from tests.engine.runs import block_children, expected_index, layer, planned, toy, wait_for
from volflow.engine.driver import execute, prepare
from volflow.engine.executors.base import RunningBlock
from volflow.engine.executors.connect import connect
from volflow.engine.monitor import watchdog
from volflow.engine.monitor.event_log import EventLog, read_events
from volflow.engine.monitor.events import RunEnds, Stall
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.watchdog import Watchdog
from volflow.engine.result import StepResult
from volflow.engine.worker.outcome import Outcome
from volflow.io.store import Store


class Frozen:
    """An executor that holds two ranges and finishes none."""

    def assigned(self):
        return {(8, 16): "", (0, 8): "tcp://there"}

    def running_blocks(self):
        return [
            RunningBlock(2, 5.0, "tcp://there"),
            RunningBlock(3, 250.0, "tcp://here", 10**9, 4, 9),
        ]

    def workers(self):
        return ["tcp://there"]

    def retired(self):
        return set()

    def waiting(self):
        return False

    def restart_workers(self):
        raise AssertionError("not requested")


class Reports(RunObserver):
    def __init__(self):
        self.stalled, self.changes, self.running = [], [], []

    def running_blocks(self, job, blocks):
        self.running.append([block.number for block in blocks])

    def stalls(self, step, seconds, under_way):
        self.stalled.append((step, seconds, list(under_way)))

    def workers_change(self, joined, lost):
        self.changes.append((list(joined), list(lost)))


@pytest.fixture
def clock(monkeypatch):
    """The watchdog's clock, which the test alone moves: `clock.now`."""
    state = types.SimpleNamespace(now=1000.0)
    fake = types.SimpleNamespace(monotonic=lambda: state.now, time=lambda: state.now)
    monkeypatch.setattr(watchdog, "time", fake)
    return state


def test_a_stall_is_reported_with_the_ranges_and_again_at_growing_intervals(tmp_path, clock):
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    reports = Reports()
    guard = Watchdog(str(tmp_path), Frozen(), reports, EventLog(str(tmp_path)), stall=10.0)

    def after(seconds):
        """Stalls reported within a time, with a check each second."""
        before = len(reports.stalled)
        for _ in range(seconds):
            clock.now += 1
            guard._check()
        return [each[1] for each in reports.stalled[before:]]

    assert after(100) == [], "nothing is under way"
    guard.begins(job)
    assert after(9) == []
    assert after(100) == [10, 20, 40, 80]
    guard.finished(Outcome(done=1))
    assert after(30) == [10, 20], "the clock starts again when something is finished"
    guard.finished(Outcome())
    assert after(50) == [40], "a lost worker's range leaves the next report as late"
    assert reports.changes == [(["tcp://there"], [])]
    step, _, places = reports.stalled[0]
    assert step == "index"
    assert places == [
        "index map: blocks 0 to 7, from 0 0 0: tcp://there",
        "index map: blocks 8 to 15, from 0 2 0: not started by any worker",
    ]
    assert guard.ended == ""


def test_it_checks_from_a_thread_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "CHECK_EVERY", 0.01)
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    reports = Reports()
    with Watchdog(str(tmp_path), Frozen(), reports, EventLog(str(tmp_path)), stall=0.01) as guard:
        guard.begins(job)
        wait_for(lambda: len(reports.stalled) >= 2)
    assert not guard._thread.is_alive()


def test_blocks_under_way_are_reported_and_written_with_the_longest_first(tmp_path):
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    reports = Reports()
    guard = Watchdog(str(tmp_path), Frozen(), reports, EventLog(str(tmp_path)))
    guard.begins(job, StepResult("index", 48))
    guard._write_progress()
    assert reports.running == [[3, 2]]
    blocks = Store(str(tmp_path)).read_json(watchdog.PROGRESS)["blocks"]
    assert blocks[0] == {
        **{"phase": "map", "index": [0, 0, 3], "seconds": 250.0},
        **{"worker": "tcp://here", "memory": 10**9, "parts": [4, 9]},
    }


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["shell", "background"])
def interrupts(request):
    """SIGINT as a shell leaves it to what it runs, and to what it runs with `&`."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    assert signal.signal(signal.SIGINT, before) is request.param


def test_a_run_that_hangs_is_ended_where_that_is_asked_for_and_resumes(
    tmp_path, monkeypatch, clock, interrupts
):
    monkeypatch.setattr(watchdog, "CHECK_EVERY", 0.05)

    def hang(seconds):
        clock.now += 5 * (seconds > 100)
        threading.Event().wait(seconds)

    monkeypatch.setattr(toys, "time", types.SimpleNamespace(sleep=hang))
    cure = tmp_path / "cure"
    settings = {"hangs": [[1, 0, 0]], "cured_by": str(cure)}
    plan = planned(tmp_path / "run", toy("Poison", **{"with": settings}))
    result = execute(plan, stall=3.0, on_stall="end")
    assert result.interrupted
    assert not result.ok
    assert result.stalled == "step 'poison': stalled; no block finished within 5 s"
    assert result.failures == []
    ends = [e for _, e in read_events(plan.pipeline.run) if isinstance(e, Stall | RunEnds)]
    assert [type(event) for event in ends] == [Stall, RunEnds]
    assert ends[1].error == result.stalled
    cure.touch()
    monkeypatch.undo()
    again = execute(plan)
    assert again.ok
    assert again.steps[0].already == 12


@pytest.mark.cluster
def test_a_frozen_worker_is_restarted_and_its_blocks_are_done(tmp_path):
    plan = planned(tmp_path, toy("Index", **{"with": {"seconds": 0.05}}))
    step = plan.steps[0]
    prepare(plan.pipeline.run, step)
    frozen, outcomes = [], []
    with connect("local", workers=1, search_path=plan.search_path) as executor:

        def report(outcome):
            outcomes.append(outcome)
            if not frozen:
                for _, worker in block_children():
                    frozen.append(worker)
                    os.kill(worker, signal.SIGSTOP)
                threading.Timer(1.0, executor.restart_workers).start()

        executor.run(step.jobs[0], [(0, 48)], report)
    assert len(frozen) == 1
    assert sum(outcome.done for outcome in outcomes) == 48
    assert any(outcome.again for outcome in outcomes)
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    np.testing.assert_array_equal(layer(tmp_path, "index"), expected_index())
