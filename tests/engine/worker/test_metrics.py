"""Metrics of the block under way reach the scheduler and the dashboard."""

from __future__ import annotations

import threading
from urllib.request import urlopen

import pytest

from tests.engine.runs import planned, toy, wait_for
from volflow.engine.driver import prepare
from volflow.engine.executors.connect import connect
from volflow.engine.worker.metrics import publish


@pytest.mark.cluster
def test_the_dashboard_shows_the_block_of_each_worker_and_its_memory(tmp_path):
    from distributed.dashboard.components.scheduler import WorkerTable

    held = tmp_path / "held"
    held.touch()
    plan = planned(tmp_path / "run", toy("Index", **{"with": {"held_by": str(held)}}))
    step = plan.steps[0]
    prepare(plan.pipeline.run, step)
    outcomes = []
    with connect("local", workers=1, search_path=plan.search_path) as executor:
        running = threading.Thread(
            target=executor.run, args=(step.jobs[0], [(30, 32)], outcomes.append)
        )
        running.start()
        try:
            wait_for(lambda: executor.running_blocks())
            (block,) = executor.running_blocks()
            (info,) = executor.client.scheduler_info()["workers"].values()
            columns = WorkerTable(executor.client.cluster.scheduler).extra_names
        finally:
            held.unlink()
            running.join()
        wait_for(lambda: executor.running_blocks() == [])
    assert (block.number, block.worker) == (30, "worker-0")
    assert (block.parts_done, block.parts_total) == (3, 8)
    assert block.memory > 10**7
    assert info["metrics"]["block"].startswith("index map 30: ")
    assert info["metrics"]["block"].endswith("3 of 8")
    assert info["metrics"]["block_memory"].endswith(" GB")
    assert {"block", "block_memory"} <= set(columns)
    assert outcomes[0].done + outcomes[-1].done >= 1


@pytest.mark.cluster
def test_the_dashboard_is_loaded_when_it_is_opened():
    with connect("local", workers=1) as executor:
        scheduler = executor.client.cluster.scheduler
        (waiting,) = scheduler.http_application.applications
        with urlopen(f"{executor.client.dashboard_link.removesuffix('/status')}/health") as answer:
            assert answer.read() == b"ok"
        assert scheduler.http_application.applications == [waiting]
        for page in ("status", "workers", "statics/css/base.css"):
            address = executor.client.dashboard_link.replace("status", page)
            with urlopen(address, timeout=60) as answer:
                assert answer.status == 200
        assert scheduler.http_application.applications != [waiting]
        assert len(scheduler.http_application.applications) == 1


def test_outside_a_dask_worker_nothing_is_published():
    asked = []
    publish(lambda: asked.append(1), "index", "map")
    assert asked == []
