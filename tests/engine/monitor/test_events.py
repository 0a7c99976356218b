"""The event log: every block and failure is in it, in order, and old logs can be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from volflow.engine.driver import execute
from volflow.engine.monitor import events
from volflow.engine.monitor.event_log import EventLog, read_events
from volflow.engine.monitor.events import NAMES, Note, from_json, to_json
from volflow.errors import StorageError
from volflow.io.store import Store


def logged(run, kind):
    return [event for _, event in read_events(str(run)) if isinstance(event, kind)]


def test_the_log_accounts_for_every_block_and_every_failure(tmp_path):
    poison = [(0, 0, 1), (2, 1, 3)]
    result = execute(planned(tmp_path, toy("Poison", **{"with": {"raises": poison}})))
    assert not result.ok
    ranges = logged(tmp_path, events.RangeEnds)
    covered = sorted(n for each in ranges for n in range(each.start, each.stop))
    assert covered == list(range(48))
    assert sum(each.done for each in ranges) == 46
    assert sum(each.failed for each in ranges) == 2
    failed = logged(tmp_path, events.BlockFailed)
    assert [each.index for each in failed] == poison
    assert {(each.reason, each.phase) for each in failed} == {("exception", "map")}
    (ended,) = logged(tmp_path, events.StepEnds)
    assert (ended.done, ended.failed, ended.left) == (46, 2, 0)


def test_a_run_begins_and_ends_with_its_steps_between(tmp_path):
    execute(planned(tmp_path, toy("Index"), toy("Double")))
    execute(planned(tmp_path, toy("Index"), toy("Double")))
    times, log = zip(*read_events(str(tmp_path)), strict=True)
    frame = [type(e) for e in log if not isinstance(e, events.RangeEnds)]
    one = [events.RunBegins, *[events.StepBegins, events.StepEnds] * 2, events.RunEnds]
    assert frame == one + one
    assert list(times) == sorted(times)
    assert [e.ok for e in logged(tmp_path, events.RunEnds)] == [True, True]
    assert [e.already for e in logged(tmp_path, events.StepBegins)] == [0, 0, 48, 48]


def test_sessions_within_a_second_keep_their_order(tmp_path):
    for number in range(20):
        EventLog(str(tmp_path)).add(events.RunBegins("1", "here", number, ()))
    assert [e.pid for e in logged(tmp_path, events.RunBegins)] == list(range(20))


def test_the_reason_of_an_early_end_is_in_the_log(tmp_path, monkeypatch):
    def broken(*arguments):
        raise StorageError("the disk is gone")

    monkeypatch.setattr("volflow.engine.driver.prepare", broken)
    with pytest.raises(StorageError):
        execute(planned(tmp_path, toy("Index")))
    (ended,) = logged(tmp_path, events.RunEnds)
    assert not ended.ok
    assert "the disk is gone" in ended.error


def test_events_are_kept_while_the_store_is_away(tmp_path, monkeypatch):
    log = EventLog(str(tmp_path))

    def away(*arguments):
        raise StorageError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", away)
        for number in range(3):
            log.add(Note(str(number)))
            log.flush()
    log.flush()
    assert [event.text for event in logged(tmp_path, Note)] == ["0", "1", "2"]
    log.flush()
    assert len(logged(tmp_path, Note)) == 3


def test_lines_that_are_no_events_are_skipped(tmp_path):
    log = EventLog(str(tmp_path))
    log.add(Note("ours"))
    log.flush()
    store = Store(str(tmp_path))
    lines = b'{"time": 1, "ev\n[]\n\xff\n{"a": 1}\n{"time": 1, "event": "of-a-later-version"}\n'
    store.write(f"events/{log.session}/000001.jsonl", lines + b'{"time": 1, "event": "note"}\n')
    store.write("events/readme.txt", b"{}")
    assert [event for _, event in read_events(str(tmp_path))] == [Note("ours")]


def test_a_log_of_an_earlier_version_is_read():
    line = {
        **{"time": 5.0, "event": "range", "step": "a", "pass": "map", "start": 0, "stop": 8},
        **{"done": 8, "failed": 0, "seconds": 1.5, "wall": 1.6, "worker": "n1:7"},
    }
    time, event = from_json(json.dumps(line))
    assert time == 5.0
    assert event == events.RangeEnds("a", "map", 0, 8, 8, 0, 1.5, 1.6, "n1:7")


def _is_plausible(event):
    numbers = [each for each in vars(event).values() if isinstance(each, int | float)]
    return all(abs(each) < events.LARGEST for each in numbers)


@pytest.mark.parametrize(
    "change",
    [
        {"time": "soon"},
        {"time": 1e12},
        {"time": float("inf")},
        {"time": float("nan")},
        {"time": -1},
        {"time": 10**400},
        {"done": "8"},
        {"done": None},
        {"done": True},
        {"done": 8.5},
        {"seconds": float("inf")},
        {"seconds": 1e300},
        {"worker": 7},
        {"event": ["range"]},
    ],
)
def test_a_line_with_values_of_other_types_is_skipped(change):
    event = events.RangeEnds("a", "map", 0, 8, 8, 0, 1.5, 1.6, "n1:7")
    line = json.loads(to_json(event, 5.0))
    assert from_json(json.dumps(line)) == (5.0, event)
    assert from_json(json.dumps({**line, **change})) is None


@pytest.mark.parametrize("kind", NAMES)
@given(data=st.data())
def test_an_event_is_read_back_as_it_was_written(kind, data):
    event = data.draw(st.builds(kind).filter(_is_plausible))
    line = to_json(event, 12.3456)
    assert json.loads(line)["event"] == NAMES[kind]
    time, again = from_json(line.encode())
    assert time == 12.346
    assert to_json(again, 12.3456) == line
