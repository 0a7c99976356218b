"""Workers that do not restart are replaced, so that a run never waits for them."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from tests.engine.runs import block_children, expected_index, layer, planned, toy
from volflow.engine.driver import prepare
from volflow.engine.executors import dask_restart
from volflow.engine.executors.connect import connect

pytestmark = pytest.mark.cluster


def ended(client):
    """End the only worker and its nanny, as a nanny ends whose worker did not restart."""
    hosts = client.cluster
    (nanny,) = hosts.workers.values()
    hosts.sync(nanny.close)


def forgotten(client):
    """Kill the only worker, and have Dask give up its nanny long before the worker can restart."""
    for _, worker in block_children():
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("how", [ended, forgotten])
def test_the_last_worker_is_replaced_and_its_blocks_are_done(tmp_path, monkeypatch, how):
    if how is forgotten:
        name = "distributed.deploy.lost-worker-timeout"
        assert name in dask_restart.PATIENT
        monkeypatch.setitem(dask_restart.PATIENT, name, "1 ms")
    plan = planned(tmp_path, toy("Index"))
    step = plan.steps[0]
    prepare(plan.pipeline.run, step)
    outcomes = []
    with connect("local", workers=1, search_path=plan.search_path) as executor:
        first = list(executor.client.scheduler_info()["workers"])

        def report(outcome):
            outcomes.append(outcome)
            if len(outcomes) == 1:
                how(executor.client)

        executor.run(step.jobs[0], [(0, 48)], report)
        assert list(executor.client.scheduler_info()["workers"]) != first
        assert executor.workers() == ["worker-0"], "it comes back under its name"
    assert sum(outcome.done for outcome in outcomes) == 48
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    np.testing.assert_array_equal(layer(tmp_path, "index"), expected_index())
