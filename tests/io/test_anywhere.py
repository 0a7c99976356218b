"""Volumes, records, markers and the lock: the same laws on a disk, on S3 and on Google's store."""

import json
import multiprocessing
import time

import numpy as np
import pytest

from tests.io.conftest import STORES
from tests.io.run.test_lock import wait_for_beats
from tests.io.test_volume import SEGMENTATION, noise
from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.errors import RunHeld, StorageError
from volflow.io.run.ledger import Ledger
from volflow.io.run.lock import KEY, RunLock
from volflow.io.run.owners import owner, set_owner
from volflow.io.run.records import Records
from volflow.io.sealed import sealed
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((1, 2, 3), (17, 18, 20))
LAYOUTS = [
    ("precomputed", None),
    ("precomputed", (16, 16, 16)),
    ("zarr", None),
    ("zarr3", None),
    ("zarr3", (8, 16, 16)),
    ("n5", None),
]


def test_markers_failures_and_owners(anywhere):
    ledger = Ledger(anywhere)
    ledger.mark_done("a/d/map", 0, 5, {"seconds": 1})
    ledger.mark_done("a/d/map", 5, 7, {"seconds": 2})
    ledger.mark_done("a/d/map", 9, 12, {})
    ledger.mark_done("a/e/map", 20, 21, {})
    ledger.mark_failed("a/d/map", 8, {"error": "no"})
    assert Ledger(anywhere).done("a/d/map") == [(0, 7), (9, 12)]
    assert [cost.get("seconds") for cost in ledger.costs("a/d/map")] == [1, 2, None]
    assert ledger.failed("a/d/map") == {8: {"error": "no"}}
    ledger.clear_failed("a/d/map", 8)
    assert ledger.failed("a/d/map") == {}
    ledger.purge_step("a", keep_digest="e")
    assert (ledger.done("a/d/map"), ledger.done("a/e/map")) == ([], [(20, 21)])
    assert owner(f"precomputed://{anywhere}/layer") is None
    set_owner(f"precomputed://{anywhere}/layer", "d1")
    assert owner(f"precomputed://{anywhere}/layer") == "d1"


def test_records(anywhere):
    records = Records(anywhere, "records/a")
    record = {"a": np.arange(5000), "b": np.zeros(0, "u1"), "c": np.linspace(0, 1, 7)}
    records.write((0, 1, 2), record)
    actual = Records(anywhere, "records/a").read((0, 1, 2))
    assert list(actual) == list(record)
    for name, column in record.items():
        np.testing.assert_array_equal(actual[name], column, strict=True)
    records.delete_all()
    with pytest.raises(StorageError, match=r"records/a/0_1_2 is missing"):
        records.read((0, 1, 2))


def test_the_lock_keeps_others_out_and_beats(anywhere):
    with RunLock(anywhere, beat=0.2) as lock:
        with pytest.raises(RunHeld, match="is held by process"):
            RunLock(anywhere).__enter__()
        wait_for_beats(anywhere, 2)
        assert not lock.lost.is_set()
    assert lock.holder() is None
    with RunLock(anywhere):
        pass


def test_the_lock_of_a_dead_process_is_taken_over_and_its_heart_stays_still(anywhere):
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    with RunLock(anywhere, beat=60) as first:
        body = json.loads(Store(anywhere).read(KEY))
        del body["checksum"]
        dead = sealed({**body, "pid": process.pid})
        Store(anywhere).write(KEY, json.dumps(dead).encode())
        with RunLock(anywhere, beat=60) as second:
            assert second.holder()["token"] != body["token"]
            assert first._own_generation() is None
    assert second.holder() is None


@pytest.mark.parametrize(("format_", "shard"), LAYOUTS)
def test_volumes(anywhere, format_, shard):
    spec = VolumeSpec(path=f"{format_}://{anywhere}", shard=shard)
    volume, fresh = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 8), (8, 8, 8))
    assert fresh
    whole = noise(np.random.default_rng(0), BOUNDS.shape, "uint64")
    volume.write(BOUNDS, whole)
    actual = Volume.open(VolumeSpec(path=anywhere), own=True)  # its format is found by looking
    assert actual.format == format_
    np.testing.assert_array_equal(actual.read(BOUNDS), whole, strict=True)
    _, fresh = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 8), (8, 8, 8))
    assert not fresh
    volume, fresh = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 4), (8, 8, 8))
    assert fresh
    with pytest.raises(StorageError, match="a chunk is missing"):
        volume.read(BOUNDS)


def test_the_same_voxels_are_the_same_objects_on_every_store(tmp_path, request):
    whole = noise(np.random.default_rng(1), BOUNDS.shape, "uint64")
    actual = {}
    for store in STORES:
        top = str(tmp_path) if store == "file" else f"{request.getfixturevalue(store)}/same"
        for format_, shard in LAYOUTS:
            spec = VolumeSpec(path=f"{format_}://{top}/{format_}{shard is None}", shard=shard)
            volume, _ = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 8), (8, 8, 8))
            volume.write(BOUNDS, whole)
        here = Store(top)
        actual[store] = {key: here.read(key) for key in here.list()}
    assert len(actual["file"]) > 40
    assert actual["file"] == actual["s3"] == actual["gs"]
