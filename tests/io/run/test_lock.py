import json
import os
import signal
import subprocess
import sys
import time
import types

import psutil
import pytest

from tests.engine.runs import wait_for
from volflow.errors import RunHeld
from volflow.io.run import lock as lock_module
from volflow.io.run.lock import KEY, RunLock
from volflow.io.store import Store

HOLD = """
import sys, time
from volflow.io.run.lock import RunLock
with RunLock(sys.argv[1], beat=0.2):
    print("held", flush=True)
    time.sleep(60)
"""

RACE = """
import sys, time
from volflow.errors import RunHeld
from volflow.io.run.lock import RunLock
print("ready", flush=True)
sys.stdin.readline()
try:
    with RunLock(sys.argv[1], beat=0.2):
        print("won", flush=True)
        sys.stdin.readline()
except RunHeld as error:
    print("lost", error, flush=True)
"""


def start(script, run):
    return subprocess.Popen(
        [sys.executable, "-c", script, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process):
    process.kill()
    process.communicate()


def held_elsewhere(run, beat, **more):
    """A lock as a driver on another machine would have left it."""
    body = {"host": "far", "pid": 1, "place": "far", "user": "eve", "started": "noon"}
    Store(run).write_json(KEY, {**body, "beat": beat, "interval": 0.2, "token": "t", **more})


def wait_for_beats(run, count):
    """Wait until the holder of a run has beaten so many times more."""
    store = Store(run)
    for _ in range(count):
        before = store.find(KEY).generation
        wait_for(lambda before=before: store.find(KEY).generation != before)


@pytest.fixture
def waits(monkeypatch):
    """A replacement for the waits of a lock; by default a list of their seconds."""
    actual = types.SimpleNamespace(seconds=[], instead=lambda: None)

    def sleep(seconds):
        actual.seconds.append(seconds)
        actual.instead()

    fake = types.SimpleNamespace(time=time.time, sleep=sleep)
    monkeypatch.setattr(lock_module, "time", fake)
    return actual


def test_a_second_driver_is_reported_who_holds_the_run(tmp_path):
    run = str(tmp_path)
    with RunLock(run, beat=0.1) as lock:
        wait_for_beats(run, 3)  # it is ours after some beats as it was before them
        assert not lock.lost.is_set()
        who = rf"held by process {os.getpid()} on .* \(user .*, since \d{{4}}-"
        with pytest.raises(RunHeld, match=who), RunLock(run):
            pass
        assert lock.holder()["pid"] == os.getpid()
    assert lock.holder() is None
    with RunLock(run):
        pass


def test_the_lock_is_released_when_the_run_fails(tmp_path):
    with pytest.raises(KeyError), RunLock(str(tmp_path)):
        raise KeyError
    assert Store(str(tmp_path)).read(KEY) is None


def test_a_killed_holder_on_this_machine_is_replaced_at_once(tmp_path, waits):
    run = str(tmp_path)
    process = start(HOLD, run)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunHeld, match=f"process {process.pid} "), RunLock(run):
            pass
        os.kill(process.pid, signal.SIGKILL)
        zombie = psutil.STATUS_ZOMBIE  # until we wait for it
        wait_for(lambda: psutil.Process(process.pid).status() == zombie)
        with RunLock(run) as lock:
            assert lock.holder()["pid"] == os.getpid()
        assert waits.seconds == []
    finally:
        end(process)


def test_another_process_with_the_pid_of_a_dead_holder_is_not_taken_for_it(tmp_path):
    run = str(tmp_path)
    with RunLock(run) as lock:
        body = lock.holder()
    Store(run).write_json(KEY, {**body, "born": body["born"] - 1})
    with RunLock(run) as lock:
        assert lock.holder()["token"] == lock._body["token"] != body["token"]


def test_of_eight_processes_exactly_one_wins(tmp_path):
    for attempt in range(3):
        run = str(tmp_path / str(attempt))
        if attempt:  # all of them wait for the stale one, then pounce together
            held_elsewhere(run, beat=0)
        processes = [start(RACE, run) for _ in range(8)]
        try:
            for process in processes:
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
            printed = [process.stdout.readline().split()[0] for process in processes]
            assert sorted(printed) == ["lost"] * 7 + ["won"]
        finally:
            for process in processes:
                end(process)


def test_a_holder_elsewhere_is_replaced_only_when_its_beat_is_old(tmp_path, waits):
    run = str(tmp_path)
    held_elsewhere(run, beat=time.time() - 50)
    with pytest.raises(RunHeld, match=r"held by process 1 on far \(user eve, since noon\)"):
        RunLock(run).__enter__()
    assert waits.seconds == []
    with RunLock(run, stale=40) as lock:
        assert lock.holder()["host"] != "far"
    assert waits.seconds == [0.4]  # two of its beats


def test_a_holder_whose_clock_is_wrong_is_not_replaced_while_it_beats(tmp_path, waits):
    run = str(tmp_path)
    held_elsewhere(run, beat=0)
    waits.instead = lambda: held_elsewhere(run, beat=1)
    with pytest.raises(RunHeld, match="is held by process 1 on far"):
        RunLock(run).__enter__()
    assert waits.seconds == [0.4]


@pytest.mark.parametrize("body", [b"", b"{not json", b"[]"])
def test_a_torn_lock_is_replaced_when_nothing_renews_it(tmp_path, body):
    store = Store(str(tmp_path))
    store.write(KEY, body)
    with RunLock(str(tmp_path), beat=0.1) as lock:
        assert lock.holder()["pid"] == os.getpid()


def test_the_beat_is_renewed_and_a_lost_lock_is_noticed(tmp_path, caplog):
    run, store = str(tmp_path), Store(str(tmp_path))
    with RunLock(run, beat=0.1) as lock:
        first = json.loads(store.read(KEY))["beat"]
        wait_for_beats(run, 2)
        assert json.loads(store.read(KEY))["beat"] > first
        assert not lock.lost.is_set()
        held_elsewhere(run, beat=time.time())
        assert lock.lost.wait(120)
        assert "taken over by process 1 on far" in caplog.text
    assert json.loads(store.read(KEY))["host"] == "far"  # theirs is not released by us
