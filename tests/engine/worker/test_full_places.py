"""A disk that fills up at any write of a run: reported, no lost block marked, and resumed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.disks import disk_of
from tests.engine.runs import files, planned, toy
from volflow.engine.api import carry_out
from volflow.engine.driver import execute
from volflow.engine.executors.profile import Profile
from volflow.engine.job import Plan
from volflow.errors import StorageFull
from volflow.io.store import Store

MADE = ("index/", "records/", "results/")  # what hangs on the pipeline alone
HERE = Profile(cluster="none")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk, with more than room enough at first."""
    with disk_of("4m", tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def filled_at(disk, monkeypatch):
    """Have the disk filled up just before the first object is written whose key begins so."""
    met: list[str] = []

    def at(begin: str) -> list[str]:
        for name in ("write", "write_if"):
            plain = getattr(Store, name)

            def write(store, key, body, *rest, plain=plain):
                here = store.location.startswith(str(disk)) and body is not None
                if here and key.startswith(begin) and not met:
                    met.append(key)
                    fill(disk)
                return plain(store, key, body, *rest)

            monkeypatch.setattr(Store, name, write)
        return met

    return at


def fill(disk: Path) -> None:
    try:
        with open(disk / "filling", "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def pipeline(run: Path, **volumes: object) -> Plan:
    return planned(run, toy("Index"), toy("Total"), bounds="0:16,0:16,0:16", volumes=volumes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert execute(pipeline(run)).ok
    return created(run)


def created(run: Path) -> dict[str, bytes]:
    return {name: body for name, body in files(run).items() if name.startswith(MADE)}


@pytest.mark.parametrize(
    "begin",
    [
        "volflow.lock.json",
        "pipeline.yaml",
        "events/",
        "volflow.owner",
        "ledger/index/",
        "records/total/",
        "ledger/total/",
        "results/",
    ],
)
def test_a_run_that_finds_no_room_says_so_and_is_resumed(disk, filled_at, undisturbed, begin):
    plan, met = pipeline(disk / "run"), filled_at(begin)
    with pytest.raises(StorageFull, match=r"(?s)no space left: .*volflow retry"):
        execute(plan)
    assert len(met) == 1
    (disk / "filling").unlink()
    assert execute(plan).ok
    assert created(disk / "run") == undisturbed
    assert not list(disk.rglob("*lock*"))


def test_a_volume_may_lie_on_the_full_disk_and_the_run_on_another(disk, tmp_path, undisturbed):
    plan = pipeline(tmp_path / "run", index={"path": f"precomputed://{disk}/index"})
    fill(disk)
    with pytest.raises(StorageFull, match="no space left"):
        execute(plan)
    (disk / "filling").unlink()
    assert execute(plan).ok
    voxels = {f"index/{name}": body for name, body in files(disk / "index").items()}
    voxels.pop("index/volflow.owner.0.json")  # a digest, which the place is in
    assert len(voxels) > 8
    assert {name: undisturbed[name] for name in voxels} == voxels


@pytest.mark.parametrize("begin", ["summary.json", "report.html"])
def test_a_run_whose_report_finds_no_room_is_done_and_the_report_is_made_up_for(
    disk, filled_at, caplog, begin
):
    plan, met = pipeline(disk / "run"), filled_at(begin)
    assert carry_out(plan, HERE).ok
    assert len(met) == 1
    assert "no report of" in caplog.text
    assert "No space left on device" in caplog.text
    assert not (disk / "run/report.html").exists()
    assert not list(disk.rglob("*__lock*"))
    (disk / "filling").unlink()
    assert carry_out(plan, HERE).ok
    assert "done" in (disk / "run/report.html").read_text()
