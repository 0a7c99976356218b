import os
import subprocess
import sys

import pytest

from tests.io.conftest import STORES, place_on
from volflow.errors import StorageError
from volflow.io.address import Address, kvstore_spec
from volflow.io.store import Store


@pytest.fixture(params=["memory", *STORES])
def place(request, tmp_path):
    if request.param == "memory":
        return f"memory://{tmp_path.name}/a"
    return place_on(request, request.param, tmp_path)


@pytest.mark.parametrize(
    ("text", "format_", "location", "query"),
    [
        ("precomputed://gs://bucket/em", "precomputed", "gs://bucket/em", ()),
        ("zarr://s3://bucket/a/b.zarr/", "zarr", "s3://bucket/a/b.zarr", ()),
        ("precomputed:///data/em", "precomputed", "/data/em", ()),
        ("n5://file:///data/em.n5", "n5", "/data/em.n5", ()),
        ("hdf5:///v.h5?dataset=a/b", "hdf5", "/v.h5", (("dataset", "a/b"),)),
        ("/v.h5?dataset=a", "", "/v.h5", (("dataset", "a"),)),
        ("https://host/em", "", "https://host/em", ()),
        ("/data/../em", "", "/em", ()),
    ],
)
def test_addresses_are_taken_apart(text, format_, location, query):
    assert Address.parse(text) == Address(format_, location, query)


def test_relative_paths_become_absolute_and_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    assert Address.parse("zarr://em.zarr").location == str(tmp_path / "em.zarr")
    assert Address.parse("~/em").location == "/somewhere/em"
    assert str(Address.parse("zarr://em.zarr")) == f"zarr://{tmp_path}/em.zarr"


def test_an_unknown_scheme_is_named_with_those_that_are_known():
    with pytest.raises(StorageError, match=r"'ftp://' is unknown.*precomputed://"):
        Address.parse("ftp://host/em")
    with pytest.raises(StorageError, match="expected a path"):
        Address.parse("zarr://")
    with pytest.raises(StorageError, match="expected name=value"):
        Address.parse("hdf5://v.h5?raw")


def test_s3_takes_endpoint_region_and_credentials_from_the_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    bare = {"driver": "s3", "bucket": "b", "path": "a/"}
    assert kvstore_spec("s3://b/a") == bare
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    assert kvstore_spec("s3://b/a") == {
        **bare,
        "endpoint": "http://localhost:9",
        "aws_region": "us-east-1",
        "aws_credentials": {"type": "environment"},
    }
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "yes")
    settings = kvstore_spec("s3://b/a")
    assert settings["aws_region"] == "eu-west-1"
    assert settings["aws_credentials"] == {"type": "anonymous"}


def test_what_is_written_is_read(place):
    store = Store(place)
    assert store.read("a/b") is None
    store.write("a/b", b"one")
    store.write("a/b", b"")
    assert store.read("a/b") == b""
    assert Store(place).read_many(["a/b", "a/c"]) == {"a/b": b""}
    store.write_json("j", {"a": [1, None]})
    assert store.read_json("j") == {"a": [1, None]}
    assert store.read_json("k") is None
    with pytest.raises(StorageError, match="a/b is not JSON"):
        store.read_json("a/b")


def test_listing_and_deleting_go_by_prefix(place):
    store = Store(place)
    for key in ("a/1", "a/2/3", "ab", "b"):
        store.write(key, b"x")
    assert store.list() == ["a/1", "a/2/3", "ab", "b"]
    assert store.list("a/") == ["1", "2/3"]
    assert store.list("a") == ["/1", "/2/3", "b"]
    assert store.list("none/") == []
    store.delete_prefix("a/")
    assert store.list() == ["ab", "b"]
    store.delete("ab")
    store.delete("ab")
    assert store.list() == ["b"]


def test_a_conditional_write_fails_when_somebody_was_faster(place):
    store = Store(place)
    first = store.write_if_absent("lock", b"one")
    assert first is not None
    assert store.write_if_absent("lock", b"two") is None
    assert store.find("lock") == (b"one", first)
    second = store.write_if("lock", b"two", first)
    assert second is not None
    assert store.write_if("lock", b"three", first) is None
    assert store.write_if("lock", None, first) is None
    assert store.read("lock") == b"two"
    assert store.write_if("lock", None, second) is not None
    assert store.read("lock") is None


def test_a_store_that_refuses_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/key"):
        Store(str(tmp_path / "file")).write("key", b"x")


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_a_stopped_process_is_writing_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr("volflow.io.store.TIMEOUT", 0.2)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "key.__lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match=r"key: no response .*: the file is locked"):
            Store(str(tmp_path)).write("key", b"value")
        holder.communicate()
    Store(str(tmp_path)).write("key", b"value")
    assert Store(str(tmp_path)).read("key") == b"value"


def test_all_with_a_prefix_goes_but_what_is_kept(place):
    keys = ["a/d1/x", "a/d2/x", "a/d2/y/z", "a/d20", "a/d2-/x", "a/e", "aa", "b/d2/x"]
    store = Store(place)
    for key in keys:
        store.write(key, b"1")
    store.delete_prefix("a/", keep="d2/")
    assert store.list() == ["a/d2/x", "a/d2/y/z", "aa", "b/d2/x"]
    store.delete_prefix("a/", keep="none/")
    assert store.list() == ["aa", "b/d2/x"]
    store.delete_prefix("")
    assert store.list() == []
