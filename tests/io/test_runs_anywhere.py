"""A whole run on each kind of store: undisturbed, killed and resumed, and through a bad network."""

import os
import subprocess
import sys

import pytest

from tests.engine.runs import wait_for
from tests.io.faulty_proxy import FaultyProxy
from tests.io.remote_runs import objects, run_to_the_end, small_run, wrongly_marked
from volflow.engine.driver import execute
from volflow.engine.worker.block_range import job_path
from volflow.io import address
from volflow.io.run.ledger import Ledger
from volflow.io.store import Store

DRIVER = """
import sys
from tests.io.remote_runs import small_run
from volflow.engine.driver import execute
execute(small_run(sys.argv[1], trace=sys.argv[2], held_by=sys.argv[3], held_from=1))
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of the run on a disk."""
    run = str(tmp_path_factory.mktemp("undisturbed") / "run")
    assert execute(small_run(run)).ok
    actual = objects(run)
    assert len(actual) > 50
    return actual


def test_a_run_leaves_the_same_objects_on_every_store(anywhere, undisturbed):
    assert execute(small_run(anywhere)).ok
    assert objects(anywhere) == undisturbed
    again = execute(small_run(anywhere))
    assert again.ok
    assert all(step.already == step.total for step in again.steps)


def test_a_killed_run_is_resumed_to_the_same_objects(anywhere, undisturbed, tmp_path):
    trace = tmp_path / "trace"
    trace.mkdir()
    held = tmp_path / "held"
    held.touch()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", DRIVER, anywhere, str(trace), str(held)]
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    plan = small_run(anywhere, trace=str(trace), held_by=str(held), held_from=1)
    job = plan.steps[0].jobs[0]
    try:
        wait_for(lambda: Ledger(anywhere).done(job_path(job)) or driver.poll() is not None)
        assert driver.poll() is None
    finally:
        driver.kill()
        driver.wait()
    held.unlink()
    ((start, stop),) = Ledger(anywhere).done(job_path(job))
    assert 0 < stop - start < len(job.phase.grid)
    assert wrongly_marked(plan) == []
    assert execute(plan).ok
    assert objects(anywhere) == undisturbed
    for number in range(start, stop):  # what was marked is not done again
        index = "-".join(map(str, job.phase.grid.index(number)))
        assert len(list(trace.glob(f"{index}.*"))) == 1


@pytest.mark.parametrize("seed", [0])
def test_nothing_wrong_comes_of_a_store_that_fails_now_and_then(
    s3, s3_endpoint, undisturbed, seed, monkeypatch
):
    run = f"{s3}/faulty_{seed}"
    with FaultyProxy(s3_endpoint, seed, faults=15, often=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        address.open_kvstore.cache_clear()
        run_to_the_end(small_run(run))
        proxy.faults = 0
        assert len(proxy.injected()) == 15
        assert objects(run) == undisturbed
        assert Store(run).read("volflow.lock.json") is None
        assert wrongly_marked(small_run(run)) == []
