"""Volumes that another run writes, on each kind of store: as an output, and as an input."""

import pytest

from tests.engine.runs import BOUNDS, expected_index, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.engine.driver import execute
from volflow.engine.monitor.status import status
from volflow.errors import PlanError, RunHeld
from volflow.io.run.lock import RunLock
from volflow.io.store import Store
from volflow.io.volume import Volume


def test_two_runs_do_not_write_one_volume(anywhere):
    volume = f"zarr3://{anywhere}/shared"
    plans = {
        name: planned(
            f"{anywhere}/{name}",
            toy("Index"),
            toy("Double", **{"with": {"times": times}}),
            volumes={"double": {"path": volume}},
        )
        for name, times in (("a", 2), ("b", 3))
    }
    assert execute(plans["a"]).ok
    shared = Store(volume)
    before = {key: shared.read(key) for key in shared.list()}
    with RunLock(f"{anywhere}/a"), pytest.raises(RunHeld, match="/a wrote it and is held by"):
        execute(plans["b"])
    assert {key: shared.read(key) for key in shared.list()} == before
    assert execute(plans["b"]).ok
    assert [step.done for step in status(f"{anywhere}/a").steps] == [48, 0]
    voxels = Volume.open(VolumeSpec(path=volume), own=True).read(BOUNDS)
    assert (voxels == expected_index() * 3).all()
    assert [step.already for step in execute(plans["a"]).steps] == [48, 0]


def test_a_half_written_volume_is_no_input(anywhere, tmp_path):
    volume = f"zarr3://{anywhere}/index"
    sick = {"raises": [[1, 1, 1]], "cured_by": str(tmp_path / "cure")}

    def writer():
        step = toy("Poison", **{"with": sick})
        return planned(f"{anywhere}/a", step, volumes={"index": {"path": volume}})

    def reader():
        return planned(f"{anywhere}/b", toy("Total"), volumes={"index": {"path": volume}})

    assert not execute(writer()).ok
    with pytest.raises(PlanError, match=r"not complete.*/a has not finished it"):
        reader()
    assert Store(f"{anywhere}/b").list() == []
    (tmp_path / "cure").touch()
    assert execute(writer()).ok
    result = execute(reader())
    total = int(expected_index().sum(dtype="int64"))
    assert result.results["total"] == {"sum": 47 * total}  # each of 48 blocks adds the others
