"""A scheduler that is lost ends the run with an error of the cluster, at whatever moment."""

import types

import pytest
from distributed.client import ClosedClientError

from tests.engine.runs import planned, toy
from volflow.engine.executors import dask
from volflow.engine.executors.dask import DaskExecutor
from volflow.errors import ClusterError

LOST = "Dask scheduler.*was lost.*run again to resume"


class Never:
    """A future that is never done."""

    def add_done_callback(self, call):
        pass

    def cancel(self):
        pass


def run_on(client, tmp_path):
    job = planned(tmp_path, toy("Index")).steps[0].jobs[0]
    DaskExecutor(client).run(job, [(0, len(job.phase.grid))], lambda outcome: None)


def test_before_a_range_is_handed_out(tmp_path):
    client = types.SimpleNamespace(status="closed")  # nothing else of it is asked for
    with pytest.raises(ClusterError, match=LOST):
        run_on(client, tmp_path)


@pytest.mark.parametrize("closed_when", ["handing out", "waiting"])
def test_while_ranges_are_under_way(tmp_path, monkeypatch, closed_when):
    monkeypatch.setattr(dask, "CHECK_EVERY", 0.01)
    client = types.SimpleNamespace(status="running")
    client.scheduler_info = lambda n_workers: {} if client.status == "closed" else {"workers": {}}

    def submit(*arguments, **options):
        client.status = "closed"
        if closed_when == "handing out":
            raise ClosedClientError("Client is closed.")
        return Never()

    client.submit = submit
    with pytest.raises(ClusterError, match=LOST):
        run_on(client, tmp_path)
