"""The next block is read while the current one is computed, and nothing else changes."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.engine.runs import BOUNDS, expected_index, layer, planned, toy, wait_for
from tests.engine.toys import Double
from volflow.core.geometry import Block, Box, Triple
from volflow.engine.driver import execute, prepare
from volflow.engine.executors.base import TaskSplitter
from volflow.engine.plan.planner import PROCESS_MEMORY
from volflow.engine.worker import block_range as ranges
from volflow.engine.worker import prefetch as ahead_module
from volflow.engine.worker.child_process import Child
from volflow.engine.worker.prefetch import Prefetcher
from volflow.errors import StorageError
from volflow.io.volume import Volume

READ = Volume.read


@pytest.fixture
def always(monkeypatch):
    """Small blocks are worth it, too."""
    monkeypatch.setattr(ahead_module, "WORTHWHILE", 0.0)


def test_the_next_block_is_read_next_to_this_one(always):
    where = {}

    def read(number):
        where[number] = threading.current_thread().name
        return number * 10

    started: list[int] = []
    reader = Prefetcher(read, 4, started.append)
    assert [reader.take(number) for number in range(4)] == [0, 10, 20, 30]
    reader.close()
    assert started == [1, 2, 3]  # nothing beyond the range is even started
    assert where[0] == threading.current_thread().name
    assert all(where[number].startswith("prefetch") for number in (1, 2, 3))
    assert sorted(where) == [0, 1, 2, 3]  # nothing beyond the range


def test_a_block_is_computed_while_the_next_is_read(always):
    started = [threading.Event() for _ in range(3)]
    computed = [threading.Event() for _ in range(3)]

    def read(number):
        started[number].set()
        assert number == 0 or computed[number - 1].wait(30)  # not before, so both go on at once
        return number

    reader = Prefetcher(read, 3)
    for number in range(3):
        assert reader.take(number) == number
        assert number == 2 or started[number + 1].wait(30)
        computed[number].set()
    reader.close()


def test_quick_reads_are_not_handed_to_a_thread(monkeypatch):
    monkeypatch.setattr(ahead_module, "WORTHWHILE", 10.0)
    threads = set()
    reader = Prefetcher(lambda number: threads.add(threading.get_ident()), 5)
    for number in range(5):
        reader.take(number)
    reader.close()
    assert threads == {threading.get_ident()}


def test_an_exception_of_reading_belongs_to_its_block(always):
    def read(number):
        if number == 2:
            raise StorageError("chunk 2 is gone")
        return number

    reader = Prefetcher(read, 5)
    assert reader.take(0) == 0
    assert reader.take(1) == 1
    with pytest.raises(StorageError, match="chunk 2"):
        reader.take(2)
    assert reader.take(3) == 3
    assert reader.take(2 + 2) == 4
    reader.close()


def test_behind_a_block_that_cannot_be_read_the_next_one_is_read_ahead(monkeypatch):
    monkeypatch.setattr(ahead_module, "WORTHWHILE", 10.0)  # nothing is worth it by the time it took

    def read(number):
        raise StorageError("gone")

    started: list[int] = []
    reader = Prefetcher(read, 5, started.append)
    with pytest.raises(StorageError):
        reader.take(2)
    reader.close()
    assert started == [3]


def reading_ahead():
    """The threads that read ahead; other threads of this process may come and go."""
    return [each for each in threading.enumerate() if each.name.startswith("prefetch")]


def test_closing_ends_the_thread(always):
    assert reading_ahead() == []
    reader = Prefetcher(lambda number: number, 9)
    reader.take(0)
    assert len(reading_ahead()) == 1
    reader.close()
    assert reading_ahead() == []


def test_a_block_that_was_not_read_ahead_is_read_when_asked_for(always):
    reader = Prefetcher(lambda number: number, 9)
    assert [reader.take(number) for number in (0, 5, 5, 6)] == [0, 5, 5, 6]
    reader.close()


def test_what_is_read_ahead_is_no_more_than_one_block(always):
    read = []
    reader = Prefetcher(read.append, 9)
    reader.take(0)
    wait_for(lambda: len(read) > 1)
    time.sleep(0.05)  # in which a third one would be read
    assert read == [0, 1]
    reader.close()


# --- in a run ------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    plan = planned(tmp_path, toy("Index"), toy("Double"))
    assert execute(plan, cluster="none").ok
    return plan


def double(plan, **changes):
    """The job of the second step, to be done again."""
    prepare(plan.pipeline.run, plan.steps[1])
    return dataclasses.replace(plan.steps[1].jobs[0], **changes)


def test_the_bytes_are_those_of_reading_when_asked(run, tmp_path, always, monkeypatch):
    threads = set()
    read = Volume.read

    def noting(self, box, fill=0):
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return read(self, box, fill)

    monkeypatch.setattr(Volume, "read", noting)
    ranges.run_range(double(run), 0, 48)
    assert "prefetch" in threads
    np.testing.assert_array_equal(layer(tmp_path, "double"), 2 * expected_index())
    threads.clear()
    ranges.run_range(double(run, prefetch=False), 0, 48)
    assert "prefetch" not in threads
    np.testing.assert_array_equal(layer(tmp_path, "double"), 2 * expected_index())


def test_a_chunk_that_is_missing_fails_its_own_block_and_no_other(run, tmp_path, always):
    job = double(run)
    lost = job.phase.grid[7]
    z, y, x = (f"{a}-{b}" for a, b in zip(lost.write.start, lost.write.stop, strict=True))
    (chunk,) = (tmp_path / "index").rglob(f"{x}_{y}_{z}*")
    chunk.unlink()
    outcome = ranges.run_range(job, 0, 48)
    assert [failure.index for failure in outcome.failures] == [lost.index]
    assert outcome.failures[0].reason == "storage"
    assert outcome.done == 47


def test_memory_decides_whether_there_is_room(tmp_path):
    from volflow.config.pipeline import from_dict
    from volflow.engine.plan.plan import plan

    document = {
        "run": str(tmp_path),
        "bounds": str(BOUNDS),
        "block": [8, 8, 8],
        "resolution": [10, 8, 8],
        "steps": [toy("Index"), toy("Double")],
    }
    need = PROCESS_MEMORY + 32 * 8**3
    extra = 4 * 8**3  # the next block's `index`, uint32

    def second(memory):
        step = plan(from_dict(document), memory=memory).steps[1]
        return step.jobs[0].prefetch, step.memory["map"]

    assert second(None) == (True, need + extra)
    assert second(need + extra) == (True, need + extra)
    assert second(need + extra - 1) == (False, need)


class CrashingReads(Double):
    """Ends the process while a block is prefetched."""

    start: Triple
    how: str

    def run(self, block: Block, *, index: np.ndarray) -> dict[str, Any]:
        def crashing(volume: Volume, box: Box, fill: int = 0) -> np.ndarray:
            if box.start == self.start and threading.current_thread().name.startswith("prefetch"):
                ctypes.string_at(0) if self.how == "segfault" else os._exit(7)
            return READ(volume, box, fill)

        Volume.read = crashing  # type: ignore[method-assign]  # in the child alone
        ahead_module.WORTHWHILE = 0.0
        z, y, x = self.start
        if reading_ahead() and block.read.start == (z, y, x - 8):
            time.sleep(300)  # the read ahead ends the process under this block
        return super().run(block, index=index)


@pytest.mark.cluster
@pytest.mark.parametrize("how", ["segfault", "exit"])
def test_a_read_that_ends_the_process_convicts_no_innocent(run, tmp_path, how):
    job = double(run)
    stage = CrashingReads(start=job.phase.grid[5].read.start, how=how)
    child = Child((os.getcwd(),))
    sent = []
    send = child._send
    child._send = lambda *arguments: (sent.append(arguments[1:]), send(*arguments))[1]
    try:
        outcome = child.run(dataclasses.replace(job, stage=stage), 0, 12)
    finally:
        child.close()
    assert outcome.failures == []
    assert outcome.done == 12
    assert sent == [(0, 12, True), (4, 12, False)]  # it died under block 4; then each block alone


def test_slow_blocks_come_several_to_a_task_while_there_are_enough():
    pieces = TaskSplitter([(0, 100)], 2)
    pieces.record(ranges.Outcome(done=1, seconds=3.0))
    assert pieces.take() == (0, 4)
    pieces = TaskSplitter([(0, 100)], 2)
    pieces.record(ranges.Outcome(done=1, seconds=30.0))
    assert pieces.take() == (0, 1)
    pieces = TaskSplitter([(0, 4)], 2)
    pieces.record(ranges.Outcome(done=1, seconds=3.0))
    assert pieces.take() == (0, 1)  # so that both end together
