"""What a run leaves for those who were not there: its event log."""

from __future__ import annotations

import pytest

from tests.engine.runs import planned, toy
from volflow.engine.driver import execute
from volflow.engine.monitor.events import EventLog, read_events
from volflow.errors import StorageError
from volflow.io.store import Store


def told(run, kind):
    return [event for event in read_events(str(run)) if event["event"] == kind]


def test_the_log_accounts_for_every_block_and_every_failure(tmp_path):
    poison = [[0, 0, 1], [2, 1, 3]]
    result = execute(planned(tmp_path, toy("Poison", **{"with": {"raises": poison}})))
    assert not result.ok
    ranges = told(tmp_path, "range")
    covered = sorted(n for each in ranges for n in range(each["start"], each["stop"]))
    assert covered == list(range(48))
    assert sum(each["done"] for each in ranges) == 46
    assert sum(each["failed"] for each in ranges) == 2
    assert [each["index"] for each in told(tmp_path, "failed")] == poison
    assert {each["reason"] for each in told(tmp_path, "failed")} == {"exception"}
    (ended,) = told(tmp_path, "step_ends")
    assert (ended["done"], ended["failed"], ended["left"]) == (46, 2, 0)


def test_a_run_begins_and_ends_with_its_steps_between(tmp_path):
    execute(planned(tmp_path, toy("Index"), toy("Double")))
    execute(planned(tmp_path, toy("Index"), toy("Double")))
    events = list(read_events(str(tmp_path)))
    frame = [e["event"] for e in events if e["event"] != "range"]
    one = ["run_begins", *["step_begins", "step_ends"] * 2, "run_ends"]
    assert frame == one + one
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert [e["ok"] for e in events if e["event"] == "run_ends"] == [True, True]
    assert [e["already"] for e in events if e["event"] == "step_begins"] == [0, 0, 48, 48]


def test_sessions_within_a_second_keep_their_order(tmp_path):
    for number in range(20):
        EventLog(str(tmp_path)).tell("run_begins", number=number)
    assert [event["number"] for event in read_events(str(tmp_path))] == list(range(20))


def test_what_ended_a_run_early_is_in_the_log(tmp_path, monkeypatch):
    def broken(*arguments):
        raise StorageError("the disk is gone")

    monkeypatch.setattr("volflow.engine.driver.prepare", broken)
    with pytest.raises(StorageError):
        execute(planned(tmp_path, toy("Index")))
    (ended,) = told(tmp_path, "run_ends")
    assert not ended["ok"]
    assert "the disk is gone" in ended["error"]


def test_events_are_kept_while_the_store_is_away(tmp_path, monkeypatch):
    log = EventLog(str(tmp_path))

    def away(*arguments):
        raise StorageError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", away)
        for number in range(3):
            log.tell("note", text=str(number))
            log.flush()
    log.flush()
    assert [event["text"] for event in told(tmp_path, "note")] == ["0", "1", "2"]
    log.flush()
    assert len(told(tmp_path, "note")) == 3


def test_lines_that_are_not_ours_are_passed_over(tmp_path):
    log = EventLog(str(tmp_path))
    log.tell("note", text="ours")
    log.flush()
    store = Store(str(tmp_path))
    store.write(f"events/{log.session}/000001.jsonl", b'{"time": 1, "ev\n[]\n\xff\n{"a": 1}\n')
    store.write("events/readme.txt", b"{}")
    assert [event["event"] for event in read_events(str(tmp_path))] == ["note"]
