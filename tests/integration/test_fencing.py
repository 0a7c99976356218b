"""Drivers and tasks that lost their run, or its volume: on a scheduler, on Slurm, and on S3."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.engine.runs import wait_for
from tests.integration.fenced import (
    age_lock,
    everything,
    held_driver,
    numbers,
    painting,
    pause,
    tcp_cluster,
    traces,
)
from tests.integration.slurm_site import assert_nothing_left, profile
from tests.io.servers import BUCKET, s3_server
from volflow.engine.driver import execute
from volflow.engine.monitor.status import status
from volflow.errors import RunHeld
from volflow.io import address


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as actual:
        yield actual


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path, monkeypatch):
    """A place for runs and volumes."""
    if request.param == "disk":
        yield str(tmp_path / "place")
        return
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    address.open_kvstore.cache_clear()
    yield f"s3://{BUCKET}/{request.node.name.partition('[')[0]}"
    address.open_kvstore.cache_clear()


@pytest.fixture
def scheduler(place, tmp_path):  # after the place, whose credentials its worker needs
    with tcp_cluster(tmp_path) as actual:
        yield actual


def take_over_from_paused(driver: subprocess.Popen[str], folder: Path, place: str) -> None:
    """A second driver takes the run over; the first wakes up and must end without a word in it."""
    run, volume = f"{place}/run", f"zarr://{place}/painted"
    pause(driver)
    age_lock(run)
    assert execute(painting(run, volume, 2)).ok
    before = everything(run, f"{place}/painted")
    (folder / "held").unlink()
    driver.send_signal(signal.SIGCONT)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 4, stderr
    assert "expected the lock of the driver that started this work" in stderr
    assert everything(run, f"{place}/painted") == before
    assert numbers(volume) == [2]


def kill_and_take_over(driver: subprocess.Popen[str], folder: Path, place: str, other: str) -> None:
    """A run that was killed is taken over, or its volume is; its tasks go on, and write nothing."""
    run, volume = f"{place}/run", f"zarr://{place}/painted"
    started = traces(folder, "begins")
    driver.kill()
    driver.wait()
    assert execute(painting(f"{place}/{other}", volume, 2)).ok
    before = everything(run, f"{place}/{other}", f"{place}/painted")
    (folder / "held").unlink()
    wait_for(lambda: set(started) <= set(traces(folder, "ends")))
    assert execute(painting(f"{place}/{other}", volume, 2)).steps[0].already == 8
    assert everything(run, f"{place}/{other}", f"{place}/painted") == before
    assert numbers(volume) == [2]


@pytest.mark.cluster
def test_a_paused_driver_on_a_scheduler_ends_with_4(scheduler, place, tmp_path):
    with held_driver(tmp_path, f"{place}/run", f"zarr://{place}/painted", scheduler) as driver:
        take_over_from_paused(driver, tmp_path, place)


@pytest.mark.cluster
@pytest.mark.parametrize("other", ["run", "other"])
def test_tasks_of_a_killed_driver_on_a_scheduler_write_nothing(scheduler, place, tmp_path, other):
    with held_driver(tmp_path, f"{place}/run", f"zarr://{place}/painted", scheduler) as driver:
        if other == "other":
            with pytest.raises(RunHeld, match="/run wrote it and is held by"):
                execute(painting(f"{place}/other", f"zarr://{place}/painted", 2))
        kill_and_take_over(driver, tmp_path, place, other)
    if other == "other":
        assert status(f"{place}/run").steps[0].done == 0


SLURM = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("end", [pytest.param(end, marks=SLURM) for end in ("paused", "killed")])
def test_a_driver_on_slurm_that_lost_its_run_writes_nothing(slurm, tmp_path, end):
    place = str(tmp_path / "place")
    profile(tmp_path)
    site = str(tmp_path / "site.yaml")
    with held_driver(tmp_path, f"{place}/run", f"zarr://{place}/painted", site) as driver:
        if end == "paused":
            take_over_from_paused(driver, tmp_path, place)
        else:
            kill_and_take_over(driver, tmp_path, place, "run")
    assert_nothing_left(tmp_path / "place" / "run")
