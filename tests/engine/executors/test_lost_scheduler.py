"""A scheduler that is lost ends the run with an error of the cluster, at whatever moment."""

import contextlib
import types

import pytest
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError

from tests.engine.runs import planned, toy
from volflow.engine.executors import dask, remote_scheduler
from volflow.engine.executors.dask import DaskExecutor
from volflow.engine.executors.lost_scheduler import scheduler_errors
from volflow.engine.executors.profile import find_profile
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


@pytest.mark.parametrize("step", ["run", "scheduler_info"])
def test_while_the_workers_are_asked_what_they_have(tmp_path, monkeypatch, step):
    class Client(contextlib.AbstractContextManager):
        status = "running"

        def __init__(self, *address, **options):
            pass

        def __exit__(self, *error):
            pass

        def scheduler_info(self, n_workers):
            if step == "scheduler_info":
                self.status = "closed"
                return {}
            return {"workers": {"tcp://somewhere": {}}}

        def run(self, *arguments, **options):
            raise CommClosedError("Stream is closed")

    monkeypatch.setattr("distributed.Client", Client)
    monkeypatch.setattr(remote_scheduler, "require_listener", lambda address: None)
    profile = find_profile("tcp://127.0.0.1:1")
    with (
        pytest.raises(ClusterError, match=LOST),
        remote_scheduler.connected_client(profile, str(tmp_path), lambda text: None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are():
    client = types.SimpleNamespace(status="running")
    with pytest.raises(PermissionError), scheduler_errors(client):
        raise PermissionError("a log cannot be written")
