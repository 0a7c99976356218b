"""Volumes of another run as inputs: never read as zeros where they are not written."""

import pickle
from pathlib import Path

import pytest

from tests.engine.runs import BOUNDS, planned, toy
from volflow.config.pipeline import VolumeSpec
from volflow.engine.driver import execute
from volflow.errors import PlanError, StorageError
from volflow.io.run.owners import set_owner
from volflow.io.volume import Volume

FORMATS = ("precomputed", "zarr", "zarr3", "n5")


def writer(tmp_path, address, sharded=False):
    """The plan of a run whose block 1, 1, 1 fails until there is a cure."""
    volume = {"path": address}
    if sharded:
        volume |= {"chunk": [4, 4, 4], "shard": [8, 8, 8]}
    settings = {"raises": [[1, 1, 1]], "cured_by": str(tmp_path / "cure")}
    step = toy("Poison", **{"with": settings})
    return planned(tmp_path / "a", step, volumes={"index": volume})


def reader(tmp_path, address):
    return planned(tmp_path / "b", toy("Total"), volumes={"index": {"path": address}})


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("format_name", FORMATS)
def test_an_unfinished_volume_is_refused_and_then_read_whole(tmp_path, format_name, sharded):
    if sharded and format_name in ("zarr", "n5"):
        pytest.skip("no shards")
    address = f"{format_name}://{tmp_path}/index"
    assert not execute(writer(tmp_path, address, sharded)).ok
    with pytest.raises(PlanError, match=r"not complete.*/a has not finished it"):
        reader(tmp_path, address)
    strict = Volume.open(VolumeSpec(path=address))
    assert strict.ours
    with pytest.raises(StorageError, match="a chunk is missing"):
        strict.read(BOUNDS)
    with pytest.raises(StorageError, match="a chunk is missing"):
        pickle.loads(pickle.dumps(strict)).read(BOUNDS)
    seen = Volume.open(VolumeSpec(path=address), partial=True)
    assert (seen.read(BOUNDS) == 0).sum() == 8**3  # a viewer shows what is there
    (tmp_path / "cure").touch()
    assert execute(writer(tmp_path, address, sharded)).ok
    plan = reader(tmp_path, address)
    assert execute(plan).ok
    assert int(strict.read(BOUNDS).min()) > 0


def test_an_unfinished_mask_is_refused(tmp_path):
    address = f"zarr://{tmp_path}/index"
    assert not execute(writer(tmp_path, address)).ok
    volumes = {"roi": {"path": address}}
    with pytest.raises(PlanError, match=r"roi.*index is not complete"):
        planned(tmp_path / "b", toy("Index"), volumes=volumes, mask="roi")


def test_a_lost_chunk_of_a_volume_of_an_earlier_version_fails_the_block(tmp_path):
    address = f"precomputed://{tmp_path}/index"
    (tmp_path / "cure").touch()
    plan = writer(tmp_path, address)
    assert execute(plan).ok
    set_owner(address, plan.steps[0].digest)
    text = f'{{"digest": "{plan.steps[0].digest}"}}'
    (tmp_path / "index/volflow.owner.0.json").write_text(text)
    chunk = next(path for path in Path(tmp_path / "index").rglob("*_*_*") if path.is_file())
    chunk.unlink()
    result = execute(reader(tmp_path, address))
    assert [failure.reason for failure in result.failures] == ["storage"]
    assert "a chunk is missing" in result.failures[0].error
