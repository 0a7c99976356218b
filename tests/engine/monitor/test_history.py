"""Sums of the event log, and their place in the report."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.engine.runs import planned, toy
from volflow.engine.driver import execute
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.events import RunBegins, WorkersChange
from volflow.engine.monitor.history import MOST_BINS, Bins, history, seconds_by_step
from volflow.view.report.run.timeline import timeline


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1000)), max_size=300))
def test_however_long_it_takes_nothing_is_lost_and_the_line_stays_short(actual):
    bins = Bins(100.0)
    for time, count in actual:
        bins.add(100.0 + time, count)
    assert sum(bins.counts) == sum(count for _, count in actual)
    assert len(bins.counts) <= MOST_BINS
    if actual:
        latest = max(time for time, _ in actual)
        assert bins.width * len(bins.counts) >= latest


def test_the_report_tells_of_both_sessions_and_who_did_the_blocks(tmp_path):
    cure = tmp_path / "cure"
    poison = {"raises": [[1, 1, 1]], "cured_by": str(cure)}
    plan = planned(tmp_path / "run", toy("Poison", **{"with": poison}))
    assert not execute(plan).ok
    cure.touch()
    assert execute(plan).ok
    actual = history(plan.pipeline.run)
    assert actual["sessions"] == 2
    assert actual["failed"] == 1
    assert sum(actual["blocks"]) == 48
    assert [(w["name"], w["blocks"]) for w in actual["workers"]] == [("this process", 48)]
    assert {span["step"] for span in actual["spans"]} == {"poison"}
    assert actual["begun"] <= actual["spans"][0]["begun"] <= actual["spans"][0]["ended"]
    page = timeline(actual)
    assert "2 sessions" in page
    assert page.count("<svg") == page.count("</svg>") == 1


def test_what_the_log_holds_is_text_and_not_markup():
    worker = {"name": "<script>", "blocks": 1, "seconds": 1.0}
    span = {"step": "<b>", "begun": 0.0, "ended": 1.0}
    numbers = {"sessions": 1, "again": 0, "lost": 0, "stalls": 0, "failed": 0, "every": 1.0}
    actual = {**numbers, "begun": 0.0, "ended": 2.0, "blocks": [1, 3]}
    page = timeline({**actual, "workers": [worker], "spans": [span]})
    assert "<script>" not in page
    assert "<b>" not in page
    assert timeline({}) == ""


def test_a_worker_that_comes_back_does_not_count_as_lost(tmp_path):
    for joined, lost in [(("a", "b"), ()), ((), ("a", "b")), (("a",), ())]:
        log = EventLog(str(tmp_path))
        log.add(WorkersChange(joined, lost))
    assert history(str(tmp_path))["lost"] == 1


def test_a_lost_worker_of_an_earlier_session_stays_lost(tmp_path):
    for _ in range(2):
        log = EventLog(str(tmp_path))
        log.add(RunBegins("1", "here", 1, ()))
        log.add(WorkersChange(("a",), ()))
        log.add(WorkersChange((), ("a",)))
    assert history(str(tmp_path))["lost"] == 2


def test_the_time_of_a_step_is_that_of_all_sessions():
    spans = [{"step": "a", "begun": 0.0, "ended": 5.0}, {"step": "b", "begun": 5.0, "ended": 6.0}]
    spans.append({"step": "a", "begun": 100.0, "ended": 107.0})
    assert seconds_by_step({"spans": spans}) == {"a": 12.0, "b": 1.0}
    assert seconds_by_step({}) == {}
