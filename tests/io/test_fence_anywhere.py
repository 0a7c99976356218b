"""The fence of a run on each kind of store."""

import dataclasses

import pytest

from tests.io.remote_runs import objects, small_run
from volflow.engine.driver import prepare
from volflow.engine.worker.block_range import run_range
from volflow.errors import RunHeld
from volflow.io.run.lock import KEY, RunLock
from volflow.io.store import Store


def test_a_stale_task_changes_no_object(anywhere):
    plan = small_run(anywhere)
    with RunLock(anywhere) as lock:
        prepare(anywhere, plan.steps[0])
        job = dataclasses.replace(plan.steps[0].jobs[0], fence=lock.token)
        assert run_range(job, 0, 2).done == 2
    before, keys = objects(anywhere), Store(anywhere).list()
    Store(anywhere).write_json(KEY, {"host": "far", "pid": 1, "token": "other"})
    with pytest.raises(RunHeld, match="process 1 on far"):
        run_range(job, 2, 4)
    Store(anywhere).delete(KEY)
    assert (objects(anywhere), Store(anywhere).list()) == (before, keys)
