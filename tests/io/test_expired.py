"""Credentials that expire in the middle of a run, and faults that are rarer than a 503."""

import pytest

from tests.io.faulty_proxy import FaultyProxy
from tests.io.remote_runs import objects, small_run, wrongly_marked
from volflow.engine.driver import execute
from volflow.errors import RunHeld, StorageError
from volflow.io import address
from volflow.io.run.lock import KEY, RunLock
from volflow.io.store import Store


@pytest.fixture
def proxied(s3, s3_endpoint, monkeypatch):
    with FaultyProxy(s3_endpoint, silent=0.3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        address.open_kvstore.cache_clear()
        yield proxy, s3


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = str(tmp_path_factory.mktemp("undisturbed") / "run")
    assert execute(small_run(run, shards=True)).ok
    return objects(run)


def expire_after(proxy, method, part):
    """Have the store refuse everything once such a request was answered."""
    plain, started = proxy.next_fault, []

    def fault(seen, path):
        if started:
            proxy.kinds, proxy.faults = ["403"], 1
        elif seen == method and part in path:
            started.append(path)
        return plain(seen, path)

    proxy.next_fault = fault
    return started, lambda: setattr(proxy, "next_fault", plain)


@pytest.mark.parametrize("part", ["ledger/index/", "records/total/"])
def test_a_token_that_expires_ends_the_run_and_a_new_one_resumes_it(proxied, undisturbed, part):
    proxy, bucket = proxied
    plan = small_run(f"{bucket}/expired_{part.strip('/').replace('/', '_')}", shards=True)
    started, renew = expire_after(proxy, "PUT", part)
    with pytest.raises(StorageError, match=r"access denied .*HTTP 403") as reported:
        execute(plan)
    assert len(started) == 1
    assert not isinstance(reported.value, RunHeld)
    renew()
    assert Store(plan.pipeline.run).read(KEY) is not None, "it could not be taken back"
    assert wrongly_marked(plan) == []
    assert execute(plan).ok, "the lock is our own, though it could not be released"
    assert objects(plan.pipeline.run) == undisturbed


def test_a_lock_that_this_process_holds_keeps_itself_out(tmp_path):
    with RunLock(str(tmp_path)), pytest.raises(RunHeld):
        RunLock(str(tmp_path)).__enter__()
    with RunLock(str(tmp_path)):
        pass


def test_a_lock_whose_beat_is_answered_with_half_of_it_is_still_ours(proxied, monkeypatch):
    proxy, bucket = proxied
    with RunLock(f"{bucket}/half", beat=60) as lock:
        proxy.kinds, proxy.faults = ["short unsaid"], 1
        assert lock._own_generation() == lock._generation
        assert proxy.injected() == ["short unsaid"]
        Store(f"{bucket}/half").write_json(KEY, {"token": "another"})
        assert lock._own_generation() is None
        lock.lost.set()


@pytest.mark.parametrize("kind", ["silence", "trickle"])
def test_what_passes_though_it_is_rare_is_asked_again(proxied, kind):
    proxy, bucket = proxied
    store = Store(f"{bucket}/rare")
    store.write("key", b"0123456789" * 9)
    proxy.log.clear()
    proxy.kinds, proxy.faults = [kind], 1
    assert store.read("key") == b"0123456789" * 9
    assert [seen.fault for seen in proxy.log] == ([kind] if kind == "trickle" else [kind, ""])


@pytest.mark.parametrize("kind", ["short with length", "overlong"])
def test_an_object_under_a_wrong_length_is_never_taken_for_whole(proxied, kind):
    proxy, bucket = proxied
    store = Store(f"{bucket}/length")
    store.write("key", b"0123456789" * 9)
    proxy.kinds, proxy.faults = [kind], 1
    with pytest.raises(StorageError, match="length/key was cut short after 45 bytes"):
        store.read("key")
    assert store.read("key") == b"0123456789" * 9


def test_a_list_that_is_cut_short_is_an_error_in_words(proxied):
    proxy, bucket = proxied
    store = Store(f"{bucket}/list")
    for number in range(3):
        store.write(f"a/{number}", b"")
    for kind in ("short unsaid", "empty unsaid", "short with length", "overlong"):
        proxy.kinds, proxy.faults = [kind], 1
        with pytest.raises(
            StorageError, match="/list/a/: the response was cut short or is invalid"
        ):
            store.list("a/")
    assert store.list("a/") == ["0", "1", "2"]
