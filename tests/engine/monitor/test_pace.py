"""Speed and time left: measured over minutes, and steady across a resume."""

from __future__ import annotations

import itertools
import types

import pytest

from volflow.engine.monitor import pace as pace_module
from volflow.engine.monitor.pace import WINDOW, Pace
from volflow.engine.result import StepResult


@pytest.fixture
def clock(monkeypatch):
    """The clock of a pace, which the test alone moves: `clock.now`."""
    state = types.SimpleNamespace(now=1000.0)
    fake = types.SimpleNamespace(monotonic=lambda: state.now)
    monkeypatch.setattr(pace_module, "time", fake)
    return state


def run(pace, clock, seconds_per_block, blocks):
    """Finish blocks one after another; the speed after each."""
    speeds = []
    for _ in range(blocks):
        clock.now += seconds_per_block
        pace.finished(1)
        speeds.append(pace.blocks_per_second())
    return speeds


def test_nothing_is_known_before_the_first_block(clock):
    pace = Pace(StepResult("a", 100))
    assert pace.blocks_per_second() == 0
    assert pace.seconds_left(100) is None
    assert run(pace, clock, 2.0, 10)[-1] == pytest.approx(0.5)
    assert pace.seconds_left(90) == pytest.approx(180)


def test_the_speed_follows_the_last_minutes(clock):
    pace = Pace(StepResult("a", 1000))
    run(pace, clock, 1.0, 300)
    slow = run(pace, clock, 4.0, 60)
    assert slow[-1] == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("first", [0.1, 5.0])
def test_after_a_resume_the_speed_starts_where_it_was_and_does_not_jump(clock, first):
    # Two workers did 40 blocks in 80 s of work each before: one block in 1 s together.
    pace = Pace(StepResult("a", 100, done=40, already=40, seconds_before=80.0))
    pace.workers = 2
    assert pace.blocks_per_second() == pytest.approx(1.0)
    assert pace.seconds_left(60) == pytest.approx(60)
    clock.now += first  # the first block takes much shorter or longer than the others
    pace.finished(1)
    assert pace.blocks_per_second() == pytest.approx(1.0, rel=0.12)
    speeds = [1.0, *run(pace, clock, 1.0, 300)]
    assert all(0.88 < b / a < 1.12 for a, b in itertools.pairwise(speeds))


def test_earlier_sessions_are_forgotten_within_the_window(clock):
    pace = Pace(StepResult("a", 1000, done=100, already=100, seconds_before=100.0))
    speeds = run(pace, clock, 5.0, int(2 * WINDOW / 5))
    assert speeds[-1] == pytest.approx(0.2, rel=0.05)
    assert speeds == sorted(speeds, reverse=True)


def test_a_wait_for_the_first_worker_does_not_count(clock):
    pace = Pace(StepResult("a", 100))
    clock.now += 3600
    pace.restart_clock()
    assert run(pace, clock, 2.0, 5)[-1] == pytest.approx(0.5)
    pace.restart_clock()  # another worker joins
    assert pace.blocks_per_second() == pytest.approx(0.5)
