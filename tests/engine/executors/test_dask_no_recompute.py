"""Blocks that a worker finished and marked are not run again, whenever it dies."""

from __future__ import annotations

import os
import signal
from collections import Counter

import numpy as np
import pytest

from tests.engine.runs import block_children, expected_index, layer, planned, toy, wait_for
from volflow.engine.driver import prepare
from volflow.engine.executors.connect import connect


@pytest.mark.cluster
def test_results_that_die_with_their_worker_are_read_from_the_ledger(tmp_path):
    trace = tmp_path / "trace"
    trace.mkdir()
    plan = planned(tmp_path / "run", toy("Index", **{"with": {"trace": str(trace)}}))
    step = plan.steps[0]
    prepare(plan.pipeline.run, step)
    outcomes, lost = [], []
    with connect("local", workers=2, search_path=plan.search_path) as executor:

        def report(outcome):
            """Before any other result is fetched its worker dies."""
            outcomes.append(outcome)
            if not lost:
                wait_for(lambda: all(future.done() for future in list(executor._in_flight)))
                lost.extend(executor._in_flight.values())
                before = set(executor.workers())
                for _, worker in block_children():
                    os.kill(worker, signal.SIGKILL)
                wait_for(lambda: not before & set(executor.workers()))

        executor.run(step.jobs[0], [(0, 48)], report)
    assert lost
    assert sum(outcome.done for outcome in outcomes) == 48
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    done = Counter(path.name.partition(".")[0] for path in trace.iterdir())
    assert len(done) == 48
    assert set(done.values()) == {1}
    np.testing.assert_array_equal(layer(tmp_path / "run", "index"), expected_index())
