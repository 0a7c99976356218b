"""Names of a pool's workers, which of them count as lost, and that a queue is no stall."""

from __future__ import annotations

import types

from tests.engine.monitor.test_watchdog import Frozen, Reports, clock  # noqa: F401  (a fixture)
from tests.engine.runs import planned, toy
from volflow.engine.executors.slurm.job_replacement import queue_text
from volflow.engine.executors.slurm.worker_names import LIFETIME_ENDED, WorkerNames
from volflow.engine.monitor.event_log import EventLog
from volflow.engine.monitor.watchdog import LOST_AFTER, Watchdog


def worker_names(*jobs: tuple[str, str | None]) -> WorkerNames:
    """Names for a cluster that made these jobs, each with its name and Slurm's number."""
    created = [types.SimpleNamespace(name=name, job_id=number) for name, number in jobs]
    return WorkerNames(types.SimpleNamespace(worker_spec=dict(jobs), _created=created))


def test_a_worker_is_named_by_its_job():
    names = worker_names(("cpu-0", "41"), ("cpu-1", "42"), ("cpu-0", "107"), ("gpu-3", "9"))
    names.add("tls://a", "cpu-0")
    names.add("tls://b", "cpu-1")
    names.add("tls://c", "gpu-3-1")  # the second of those that share a job
    assert names.present() == ["cpu-0 (job 107)", "cpu-1 (job 42)", "gpu-3-1 (job 9)"]
    assert names.label("tls://b") == "cpu-1 (job 42)"
    assert names.label("tls://z") == "tls://z"


def test_a_worker_of_a_job_without_a_number_keeps_its_name():
    names = worker_names(("cpu-0", None))
    names.add("tls://a", "cpu-0")
    assert names.present() == ["cpu-0"]


def test_workers_whose_lifetime_ended_are_retired_and_others_are_lost():
    names = worker_names(("cpu-0", "1"), ("cpu-1", "2"), ("cpu-2", "3"))
    for number in range(3):
        names.add(f"tls://{number}", f"cpu-{number}")
    names.remove("tls://0", f"{LIFETIME_ENDED}-17.5")
    names.remove("tls://1", "handle-worker-cleanup-17.5")
    names.remove("tls://9", f"{LIFETIME_ENDED}-17.5")  # never joined
    assert names.retired == {"cpu-0 (job 1)"}
    assert names.present() == ["cpu-2 (job 3)"]
    assert names.close() == {"cpu-0 (job 1)", "cpu-2 (job 3)"}


class Pool(Frozen):
    """An executor whose workers join and leave, and may be waited for."""

    def __init__(self):
        self.names, self.gone, self.queued = ["a", "b", "c"], set(), False

    def workers(self):
        return self.names

    def retired(self):
        return self.gone

    def waiting(self):
        return self.queued


def test_only_those_are_lost_that_were_not_retired(tmp_path, clock):  # noqa: F811
    executor, reports = Pool(), Reports()
    watchdog = Watchdog(str(tmp_path), executor, reports, EventLog(str(tmp_path)))
    watchdog._check()
    executor.names, executor.gone = ["c"], {"a"}
    watchdog._check()
    clock.now += LOST_AFTER
    watchdog._check()
    executor.names, executor.gone = [], {"a", "c"}
    watchdog._check()
    clock.now += LOST_AFTER
    watchdog._check()
    assert reports.changes == [(["a", "b", "c"], []), ([], ["b"])]


def test_a_worker_that_comes_back_under_its_name_is_not_lost(tmp_path, clock):  # noqa: F811
    executor, reports = Pool(), Reports()
    watchdog = Watchdog(str(tmp_path), executor, reports, EventLog(str(tmp_path)))
    watchdog._check()
    executor.names = ["b", "c"]
    watchdog._check()
    clock.now += LOST_AFTER - 1
    watchdog._check()
    executor.names = ["a", "b", "c"]
    watchdog._check()
    clock.now += LOST_AFTER
    watchdog._check()
    assert reports.changes == [(["a", "b", "c"], [])]


def test_a_queue_is_no_stall(tmp_path, clock):  # noqa: F811
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    executor, reports = Pool(), Reports()
    executor.queued = True
    watchdog = Watchdog(str(tmp_path), executor, reports, EventLog(str(tmp_path)), stall=10.0)
    watchdog.begins(job)
    for _ in range(100):
        clock.now += 1
        watchdog._check()
    assert reports.stalled == []
    executor.queued = False
    for _ in range(10):
        assert reports.stalled == []
        clock.now += 1
        watchdog._check()
    assert [seconds for _, seconds, _ in reports.stalled] == [10]


def test_the_queue_is_described_in_slurms_words():
    states = {"1": ("PENDING", "Priority"), "2": ("RUNNING", "None"), "3": ("PENDING", "Priority")}
    assert queue_text(states) == "2 wait (Priority), 1 running, workers start"
    assert queue_text({"1": ("COMPLETING", "None")}) == queue_text({}) == ""
