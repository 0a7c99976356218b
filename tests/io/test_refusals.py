"""A refusal of a store is an error at once; a passing fault is retried."""

import os
import subprocess
import sys

import pytest

from tests.engine.runs import planned, toy
from tests.io.faulty_proxy import FaultyProxy
from tests.io.servers import refusing_port, s3_server
from volflow.config.pipeline import VolumeSpec
from volflow.errors import PlanError, StorageError
from volflow.io import address
from volflow.io import object_store as remote
from volflow.io.run.lock import KEY, RunLock
from volflow.io.store import Store
from volflow.io.volume import Volume


@pytest.mark.parametrize("kind", ["503", "503 after", "500", "429", "drop", "drop after", "short"])
def test_what_passes_is_asked_again(proxied, kind):
    proxy, bucket = proxied
    store = Store(f"{bucket}/passes")
    store.write("key", b"0123456789" * 9)
    proxy.log.clear()
    proxy.kinds, proxy.faults = [kind], 1
    assert store.read("key") == b"0123456789" * 9
    assert [seen.fault for seen in proxy.log] == [kind, ""]


def test_a_store_that_stays_away_is_reported_after_a_few_seconds(proxied):
    proxy, bucket = proxied
    proxy.kinds, proxy.faults = ["503"], 99
    with pytest.raises(StorageError, match=rf"{bucket}/a/key: failed after 4 retries: HTTP 503$"):
        Store(f"{bucket}/a").write("key", b"")
    assert len(proxy.log) == remote.RETRIES["max_retries"] + 1


@pytest.mark.parametrize("status", ["400", "401", "403"])
def test_what_does_not_pass_is_asked_once(proxied, status):
    proxy, bucket = proxied
    store = Store(f"{bucket}/a")
    asked = [
        lambda: store.read("key"),
        lambda: store.write("key", b""),
        lambda: store.list(),
        lambda: store.delete("key"),
    ]
    for ask in asked:
        proxy.log.clear()
        proxy.kinds, proxy.faults = [status], 99
        with pytest.raises(StorageError, match=f"^{bucket}/a/"):
            ask()
        assert len(proxy.log) == 1


def test_wrong_credentials_are_reported_and_how_to_give_right_ones(s3, monkeypatch, tmp_path):
    reported = "access denied .*InvalidAccessKeyId.* AWS_ACCESS_KEY_ID"
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        address.open_kvstore.cache_clear()
        with pytest.raises(StorageError, match=reported):
            RunLock(f"{s3}/run").__enter__()
        with pytest.raises(StorageError, match=reported):
            Volume.open(VolumeSpec(path=f"zarr://{s3}/em"))
        with pytest.raises(PlanError, match=reported):
            planned(f"{s3}/run", toy("Index"))
        volumes = {"index": {"path": f"zarr://{s3}/index"}}
        with pytest.raises(PlanError, match=reported):
            planned(tmp_path, toy("Double"), volumes=volumes)


def test_a_bucket_that_is_not_there_is_named(s3, gs):
    for bucket in ("s3://none-such", "gs://none-such"):
        reported = "no bucket 'none-such'"
        with pytest.raises(StorageError, match=reported):
            RunLock(f"{bucket}/run").__enter__()
    for path in ("s3://none-such/em", "precomputed://s3://none-such/em"):
        with pytest.raises(StorageError, match="no bucket 'none-such'"):
            Volume.open(VolumeSpec(path=path))


def test_an_endpoint_that_nothing_answers_at_is_reported(s3, monkeypatch):
    reported = r"no response \(.*Failed to connect to 127.0.0.1"
    with refusing_port() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        address.open_kvstore.cache_clear()
        with pytest.raises(StorageError, match=reported):
            Store(f"{s3}/a").read("key")


def test_a_silent_server_is_not_waited_for_forever():
    code = "import os; from volflow.io.address import context; context(); print(dict(os.environ))"
    bare = {name: value for name, value in os.environ.items() if "TENSORSTORE" not in name}
    named = {**bare, "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "77"}
    for given, wanted in ((bare, "15"), (named, "77")):
        out = subprocess.run(
            [sys.executable, "-c", code], env=given, capture_output=True, text=True
        )
        assert f"'TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS': '{wanted}'" in out.stdout
        assert "'TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS': '5'" in out.stdout


def test_options_of_an_address_come_before_the_environment(s3, s3_endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    address.open_kvstore.cache_clear()
    asked = f"endpoint={s3_endpoint}&region=us-east-1"
    store = Store(f"{s3}/options?{asked}")
    store.write("key", b"1")
    assert Store(f"{s3}/options?{asked}").read("key") == b"1"
    spec = address.kvstore_spec("s3://b/a", (("profile", "lab"), ("endpoint", "http://e")))
    assert spec["aws_credentials"] == {"type": "profile", "profile": "lab"}
    assert (spec["endpoint"], spec["aws_region"]) == ("http://e", "us-east-1")
    spec = address.kvstore_spec("s3://b/a", (("anonymous", "1"),))
    assert spec["aws_credentials"] == {"type": "anonymous"}
    spec = address.kvstore_spec("gs://b/a", (("project", "ours"),))
    assert spec["gcs_user_project"] == {"project_id": "ours"}
    with pytest.raises(StorageError, match=r"no option 'secret' of s3:// \(known: endpoint"):
        Volume.open(VolumeSpec(path=f"zarr://{s3}/em?secret=1"))


def test_an_object_cut_short_is_never_taken_for_whole(proxied):
    proxy, bucket = proxied
    store = Store(f"{bucket}/short")
    text = b"steps:\n- use: fragments\n- use: agglomerate\n"
    store.write("pipeline.yaml", text)
    for kind in ("short unsaid", "empty unsaid"):
        proxy.kinds, proxy.faults = [kind], 1
        with pytest.raises(
            StorageError, match=r"short/pipeline.yaml was cut short after \d+ bytes"
        ):
            store.read("pipeline.yaml")
        proxy.kinds, proxy.faults = [kind], 1
        with pytest.raises(
            StorageError, match=r"short/pipeline.yaml was cut short after \d+ bytes"
        ):
            store.read_many(["pipeline.yaml"], whole=True)
    for empty in (b"", text):
        store.write("pipeline.yaml", empty)
        assert store.read("pipeline.yaml") == empty


def test_an_object_of_the_other_store_is_asked_for_its_end(gs):
    store = Store(f"{gs}/whole")
    for body in (b"", b"1", b"12"):
        store.write("a", body)
        assert store.read("a") == body
        for part in (body[: len(body) // 2], body[:-1]):
            assert store._is_whole("a", part, b"") == (part == body)


def test_a_store_that_writes_whatever_the_condition_holds_no_run(proxied, monkeypatch):
    _, bucket = proxied
    ignoring = RunLock(f"{bucket}/ignoring")
    monkeypatch.setattr(Store, "write_if_absent", lambda self, key, body: b"written")
    with pytest.raises(StorageError, match="could not exclude a second driver; put `run`"):
        ignoring.__enter__()
    assert Store(f"{bucket}/ignoring").read(KEY) is None


def test_a_store_that_may_not_be_listed_holds_no_run(gs, gcs_endpoint, monkeypatch):
    forbidden = b'{"error": {"code": 403, "message": "no storage.objects.list"}}'
    with FaultyProxy(gcs_endpoint) as proxy:
        proxy.instead = {"GET /storage/v1/b/bucket/o?": (403, forbidden)}
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", proxy.endpoint)
        address.open_kvstore.cache_clear()
        Store(f"{gs}/unlisted").write("a", b"1")
        assert Store(f"{gs}/unlisted").list() == []  # and no error: this is the trap
        with pytest.raises(StorageError, match="the credentials need the permission to list"):
            RunLock(f"{gs}/unlisted").__enter__()
        assert Store(f"{gs}/unlisted").read(KEY) is None


def test_a_lock_whose_answer_was_lost_is_ours(proxied):
    proxy, bucket = proxied

    def lose_the_answer(method, path, draw=proxy.next_fault):
        proxy.kinds, proxy.faults = ["503 after"], int(method == "PUT" and not lost)
        lost.extend([path] * proxy.faults)
        return draw(method, path)

    lost = []
    proxy.next_fault = lose_the_answer
    with RunLock(f"{bucket}/lost", beat=60) as lock:
        assert lost == ["/bucket/lost/volflow.lock.json"]
        assert lock.holder()["token"] == lock._body["token"]
