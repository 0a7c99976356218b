"""A full disk: reported at once; no missing block is marked; the run can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.disks import disk_of, mount
from tests.engine.runs import expected_index, layer, planned, toy
from volflow.engine.driver import execute, prepare
from volflow.engine.monitor.status import status
from volflow.engine.phases.registry import run_block
from volflow.engine.worker.child_process import Child
from volflow.engine.worker.disk_full import is_full
from volflow.errors import StorageError, StorageFull


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that `index` does not fit on."""
    with disk_of("128k", tmp_path / "disk") as folder:
        yield folder


def test_a_full_disk_ends_the_run_marks_nothing_that_is_lost_and_is_resumed(small_disk):
    plan = planned(small_disk / "run", toy("Index"))
    with pytest.raises(
        StorageFull, match=r"(?s)step 'index', phase 'map': no space left.*volflow retry"
    ):
        execute(plan)
    (step,) = status(plan.pipeline.run).steps
    assert (step.failed, step.blocked) == (0, 0), "no block is to blame"
    assert 0 < step.done < 48
    assert mount("-o", "remount,size=8m", str(small_disk))
    again = execute(plan)
    assert again.ok
    assert again.steps[0].already == step.done
    np.testing.assert_array_equal(layer(small_disk / "run", "index"), expected_index())
    assert not list(small_disk.rglob("*lock*"))


def test_a_block_that_finds_no_room_is_not_recorded_as_failed(tmp_path, monkeypatch):
    def full(job, number, read=None):
        if number == 20:
            raise OSError(28, "No space left on device")
        return run_block(job, number, read)

    monkeypatch.setattr("volflow.engine.worker.block_range.run_block", full)
    plan = planned(tmp_path, toy("Index"))
    with pytest.raises(StorageFull, match="no space left"):
        execute(plan)
    (step,) = status(plan.pipeline.run).steps
    assert (step.done, step.failed, step.left) == (20, 0, 28)


def test_a_child_tells_its_worker_that_the_disk_is_full(small_disk):
    plan = planned(small_disk / "run", toy("Index"))
    prepare(plan.pipeline.run, plan.steps[0])
    child = Child(plan.search_path)
    try:
        with pytest.raises(StorageFull, match="no space left"):
            child.run(plan.steps[0].jobs[0], 0, 48)
    finally:
        child.close()


def test_what_counts_as_full():
    for full in (OSError(28, "no"), OSError(122, "no"), StorageError("x: No space left on device")):
        assert is_full(full)
    wrapped = StorageError("cannot be written")
    wrapped.__cause__ = OSError(28, "no")
    assert is_full(wrapped)
    for other in (OSError(2, "no"), ValueError("No space left on device"), StorageError("503")):
        assert not is_full(other)
