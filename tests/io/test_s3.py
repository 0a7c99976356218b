"""The same stores, volumes and lock on an S3 server."""

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.io.test_volume import SEGMENTATION, noise
from volflow.core.geometry import Box
from volflow.core.pipeline import VolumeSpec
from volflow.errors import RunHeld, StorageError
from volflow.io import address
from volflow.io.ledger import Ledger
from volflow.io.lock import RunLock
from volflow.io.records import Records
from volflow.io.store import Store
from volflow.io.volume import Volume

BOUNDS = Box((1, 2, 3), (17, 18, 20))


@pytest.fixture(scope="module")
def server():
    """The endpoint of a server with an empty bucket."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("moto_server is not installed (pip install 'moto[server]')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                request = urllib.request.Request(f"{endpoint}/bucket", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    address.open_kvstore.cache_clear()
    yield "s3://bucket"
    address.open_kvstore.cache_clear()


def test_objects_markers_and_records(bucket):
    store = Store(f"{bucket}/run")
    first = store.write_if_absent("a/b", b"1")
    assert first is not None
    assert store.write_if_absent("a/b", b"2") is None
    assert store.write_if("a/b", b"3", first) is not None
    assert store.write_if("a/b", b"4", first) is None
    assert store.read("a/b") == b"3"
    assert store.list("a/") == ["b"]
    ledger, records = Ledger(f"{bucket}/run"), Records(f"{bucket}/run", "records/a")
    ledger.mark_done("a/d/map", 0, 5, {})
    ledger.mark_done("a/d/map", 5, 7, {})
    assert ledger.done("a/d/map") == [(0, 7)]
    records.write((0, 1, 2), {"a": np.arange(5)})
    assert records.read((0, 1, 2))["a"].tolist() == [0, 1, 2, 3, 4]


def test_the_run_lock(bucket):
    with RunLock(f"{bucket}/locked", beat=0.2) as lock:
        with pytest.raises(RunHeld, match="is held by process"):
            RunLock(f"{bucket}/locked").__enter__()
        time.sleep(0.7)
        assert not lock.lost.is_set()
    assert lock.holder() is None


@pytest.mark.parametrize(
    ("format_", "shard"),
    [("precomputed", None), ("precomputed", (16, 16, 16)), ("zarr", None), ("zarr3", (8, 16, 16))],
)
def test_volumes(bucket, format_, shard):
    spec = VolumeSpec(path=f"{format_}://{bucket}/{format_}{shard is None}", shard=shard)
    volume, fresh = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 8), (8, 8, 8))
    whole = noise(np.random.default_rng(0), BOUNDS.shape, "uint64")
    volume.write(BOUNDS, whole)
    np.testing.assert_array_equal(Volume.open(spec, own=True).read(BOUNDS), whole, strict=True)
    volume, fresh = Volume.create(spec, SEGMENTATION, BOUNDS, (8, 8, 4), (8, 8, 8))
    assert fresh
    with pytest.raises(StorageError, match="a chunk is missing"):
        volume.read(BOUNDS)


def test_a_bucket_that_is_not_there_is_named_within_seconds(bucket):
    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"s3://none-such/a/key: .*NoSuchBucket"):
        Store("s3://none-such/a").write("key", b"")
    assert time.monotonic() - begun < 20
