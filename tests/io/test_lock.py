import json
import os
import signal
import subprocess
import sys
import time

import pytest

from volflow.errors import RunHeld
from volflow.io.lock import KEY, RunLock
from volflow.io.store import Store

HOLD = """
import sys, time
from volflow.io.lock import RunLock
with RunLock(sys.argv[1], beat=0.2):
    print("held", flush=True)
    time.sleep(60)
"""

RACE = """
import sys, time
from volflow.errors import RunHeld
from volflow.io.lock import RunLock
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


def test_a_second_driver_is_told_who_holds_the_run(tmp_path):
    run = str(tmp_path)
    with RunLock(run, beat=0.1) as lock:
        time.sleep(0.35)  # it is ours after some beats as it was before them
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


def test_a_killed_holder_on_this_machine_is_replaced_at_once(tmp_path):
    run = str(tmp_path)
    process = start(HOLD, run)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunHeld, match=f"process {process.pid} "), RunLock(run):
            pass
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.2)  # it is a zombie now, until we wait for it
        begun = time.monotonic()
        with RunLock(run) as lock:
            assert time.monotonic() - begun < 1
            assert lock.holder()["pid"] == os.getpid()
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
            said = [process.stdout.readline().split()[0] for process in processes]
            assert sorted(said) == ["lost"] * 7 + ["won"]
        finally:
            for process in processes:
                end(process)


def test_a_holder_elsewhere_is_replaced_only_when_its_beat_is_old(tmp_path):
    run = str(tmp_path)
    held_elsewhere(run, beat=time.time() - 50)
    with pytest.raises(RunHeld, match=r"held by process 1 on far \(user eve, since noon\)"):
        RunLock(run).__enter__()
    with RunLock(run, stale=40) as lock:
        assert lock.holder()["host"] != "far"


def test_a_holder_whose_clock_is_wrong_is_not_replaced_while_it_beats(tmp_path):
    run = str(tmp_path)
    held_elsewhere(run, beat=0)
    script = (
        "import sys, time\n"
        "from tests.io.test_lock import held_elsewhere\n"
        "for beat in range(100):\n"
        "    held_elsewhere(sys.argv[1], beat)\n"
        "    print('beat', flush=True)\n"
        "    time.sleep(0.1)\n"
    )
    process = start(script, run)
    try:
        assert process.stdout.readline() == "beat\n"
        with pytest.raises(RunHeld, match="is held by process 1 on far"):
            RunLock(run).__enter__()
    finally:
        end(process)


@pytest.mark.parametrize("body", [b"", b"{not json", b"[]"])
def test_a_torn_lock_is_replaced_when_nobody_renews_it(tmp_path, body):
    store = Store(str(tmp_path))
    store.write(KEY, body)
    with RunLock(str(tmp_path), beat=0.1) as lock:
        assert lock.holder()["pid"] == os.getpid()


def test_the_beat_is_renewed_and_a_lost_lock_is_noticed(tmp_path, caplog):
    run, store = str(tmp_path), Store(str(tmp_path))
    with RunLock(run, beat=0.1) as lock:
        first = json.loads(store.read(KEY))["beat"]
        time.sleep(0.35)
        assert json.loads(store.read(KEY))["beat"] > first
        assert not lock.lost.is_set()
        held_elsewhere(run, beat=time.time())
        assert lock.lost.wait(2)
        assert "taken over by process 1 on far" in caplog.text
    assert json.loads(store.read(KEY))["host"] == "far"  # theirs is not released by us
