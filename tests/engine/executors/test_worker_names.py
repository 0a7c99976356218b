"""Who works in a pool, who is missed when gone, and that waiting in a queue is no stall."""

from __future__ import annotations

import types

from tests.engine.monitor.test_watchdog import Frozen, Reports, clock  # noqa: F401  (a fixture)
from tests.engine.runs import planned, toy
from volflow.engine.executors.slurm.job_replacement import queue_text
from volflow.engine.executors.slurm.worker_names import LIFETIME_ENDED, WorkerNames
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.watchdog import LOST_AFTER, Watchdog


def roster_of(*jobs: tuple[str, str | None]) -> WorkerNames:
    """Of a cluster that made these jobs, each with its name and Slurm's number for it."""
    made = [types.SimpleNamespace(name=name, job_id=number) for name, number in jobs]
    return WorkerNames(types.SimpleNamespace(worker_spec=dict(jobs), _created=made))


def test_a_worker_is_named_by_its_job():
    roster = roster_of(("cpu-0", "41"), ("cpu-1", "42"), ("cpu-0", "107"), ("gpu-3", "9"))
    roster.add("tls://a", "cpu-0")
    roster.add("tls://b", "cpu-1")
    roster.add("tls://c", "gpu-3-1")  # the second of those that share a job
    assert roster.present() == ["cpu-0 (job 107)", "cpu-1 (job 42)", "gpu-3-1 (job 9)"]
    assert roster.label("tls://b") == "cpu-1 (job 42)"
    assert roster.label("tls://z") == "tls://z"


def test_a_worker_of_a_job_without_a_number_keeps_its_name():
    roster = roster_of(("cpu-0", None))
    roster.add("tls://a", "cpu-0")
    assert roster.present() == ["cpu-0"]


def test_those_whose_time_is_over_leave_in_order_and_others_are_lost():
    roster = roster_of(("cpu-0", "1"), ("cpu-1", "2"), ("cpu-2", "3"))
    for number in range(3):
        roster.add(f"tls://{number}", f"cpu-{number}")
    roster.remove("tls://0", f"{LIFETIME_ENDED}-17.5")
    roster.remove("tls://1", "handle-worker-cleanup-17.5")
    roster.remove("tls://9", f"{LIFETIME_ENDED}-17.5")  # never came
    assert roster.retired == {"cpu-0 (job 1)"}
    assert roster.present() == ["cpu-2 (job 3)"]
    assert roster.close() == {"cpu-0 (job 1)", "cpu-2 (job 3)"}


class Pool(Frozen):
    """A crew whose workers come and go, and may be waited for."""

    def __init__(self):
        self.names, self.gone, self.queued = ["a", "b", "c"], set(), False

    def workers(self):
        return self.names

    def retired(self):
        return self.gone

    def waiting(self):
        return self.queued


def test_only_those_are_lost_that_were_not_retired(tmp_path, clock):  # noqa: F811
    executor, told = Pool(), Reports()
    dog = Watchdog(str(tmp_path), executor, told, EventLog(str(tmp_path)))
    dog._check()
    executor.names, executor.gone = ["c"], {"a"}
    dog._check()
    clock.now += LOST_AFTER
    dog._check()
    executor.names, executor.gone = [], {"a", "c"}
    dog._check()
    clock.now += LOST_AFTER
    dog._check()
    assert told.changes == [(["a", "b", "c"], []), ([], ["b"])]


def test_a_worker_that_comes_back_under_its_name_is_not_lost(tmp_path, clock):  # noqa: F811
    executor, told = Pool(), Reports()
    dog = Watchdog(str(tmp_path), executor, told, EventLog(str(tmp_path)))
    dog._check()
    executor.names = ["b", "c"]
    dog._check()
    clock.now += LOST_AFTER - 1
    dog._check()
    executor.names = ["a", "b", "c"]
    dog._check()
    clock.now += LOST_AFTER
    dog._check()
    assert told.changes == [(["a", "b", "c"], [])]


def test_a_queue_is_no_stall(tmp_path, clock):  # noqa: F811
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    executor, told = Pool(), Reports()
    executor.queued = True
    dog = Watchdog(str(tmp_path), executor, told, EventLog(str(tmp_path)), stall=10.0)
    dog.begins(job)
    for _ in range(100):
        clock.now += 1
        dog._check()
    assert told.stalled == []
    executor.queued = False
    for _ in range(10):
        assert told.stalled == []
        clock.now += 1
        dog._check()
    assert [seconds for _, seconds, _ in told.stalled] == [10]


def test_what_jobs_are_at_is_said_in_slurms_words():
    states = {"1": ("PENDING", "Priority"), "2": ("RUNNING", "None"), "3": ("PENDING", "Priority")}
    assert queue_text(states) == "2 wait (Priority), 1 running, workers start"
    assert queue_text({"1": ("COMPLETING", "None")}) == queue_text({}) == ""
