import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volflow.errors import StorageError
from volflow.io.run.ledger import Ledger, union
from volflow.io.run.owners import owner, set_owner
from volflow.io.store import Store

JOB = "agglomerate/d1/total.up.0"
ranges = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda r: (r[0], r[0] + r[1])), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(ranges)
def test_done_is_the_union_of_the_marked_ranges(tmp_path_factory, marked):
    ledger = Ledger(str(tmp_path_factory.mktemp("run")))
    for start, stop in marked:
        ledger.mark_done(JOB, start, stop, {"blocks": stop - start})
    actual = ledger.done(JOB)
    assert {n for a, b in actual for n in range(a, b)} == {
        n for a, b in marked for n in range(a, b)
    }
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(actual))
    costs = [(c["start"], c["stop"], c["blocks"]) for c in ledger.costs(JOB)]
    assert costs == sorted({(a, b, b - a) for a, b in marked})


def test_ranges_that_touch_are_one():
    assert union([(3, 5), (0, 3), (4, 4), (7, 9), (8, 8)]) == [(0, 5), (7, 9)]


@given(ranges)
def test_a_union_has_the_blocks_of_its_ranges_and_no_two_that_touch(marked):
    actual = union(marked)
    assert {n for a, b in actual for n in range(a, b)} == {
        n for a, b in marked for n in range(a, b)
    }
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(actual))
    assert union(actual) == actual
    assert union(np.array(marked, int).reshape(-1, 2)) == actual


@settings(max_examples=40, deadline=None)
@given(ranges)
def test_a_few_markers_tell_exactly_what_was_done_and_what_it_took(tmp_path_factory, marked):
    ledger = Ledger(str(tmp_path_factory.mktemp("run")))
    for start, stop in marked:
        ledger.mark_done(JOB, start, stop, {"seconds": start + 0.5} if start % 3 else {})
    actual = ledger.progress(JOB)
    assert actual.done == ledger.done(JOB)
    assert actual.seconds == sum(a + 0.5 for a, b in set(marked) if a % 3)


@pytest.mark.parametrize("markers", [1, 6, 7, 8, 100])
def test_of_many_markers_some_tell_what_all_took(tmp_path, monkeypatch, markers):
    monkeypatch.setattr("volflow.io.run.ledger.SAMPLE", 7)
    ledger, stop, read = Ledger(str(tmp_path)), 0, []
    for number in range(markers):
        start, stop = stop, stop + 1 + number % 5
        ledger.mark_done(JOB, start, stop, {"seconds": 2.0 * (stop - start)})
    read_many = Store.read_many
    monkeypatch.setattr(
        Store, "read_many", lambda self, keys: read.extend(keys) or read_many(self, keys)
    )
    actual = ledger.progress(JOB)
    assert actual.done == [(0, stop)]
    assert actual.seconds == pytest.approx(2.0 * stop)  # each block took as long as any other
    assert len(read) == min(markers, 7)
    first, last = f"0-{1}", f"{stop - 1 - (markers - 1) % 5}-{stop}"
    assert {read[0].rpartition("/")[2], read[-1].rpartition("/")[2]} == {first, last}


def test_other_files_in_the_folder_are_passed_over(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.mark_done(JOB, 2, 4, {})
    ledger.mark_failed(JOB, 7, {"error": "no"})
    folder = tmp_path / "ledger" / JOB
    strange = ("³-4", "٣-٤", "8-9\n9-10", "1-99999999999999999999")
    for name in (".nfs0001", "a-b", "5-3", "1-2.tmp", "1--2", *strange):
        (folder / "done" / name).write_bytes(b"junk")
        (folder / "failed" / name).write_bytes(b"junk")
    (folder / "done" / "0-1").write_bytes(b"\xff{")  # its name counts, its body is lost
    (folder / "failed" / "8").write_bytes(b"[1]")
    assert ledger.done(JOB) == [(0, 1), (2, 4)]
    assert [cost["start"] for cost in ledger.costs(JOB)] == [2]
    assert ledger.failed(JOB) == {7: {"error": "no"}}


def test_an_empty_range_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{JOB}: expected a range of blocks, got 3 to 3"):
        Ledger(str(tmp_path)).mark_done(JOB, 3, 3, {})


def test_failures_are_kept_by_number_and_cleared(tmp_path):
    ledger = Ledger(str(tmp_path))
    for number in (10, 9):
        ledger.mark_failed(JOB, number, {"error": str(number)})
    ledger.mark_failed(JOB, 9, {"error": "again"})
    ledger.mark_failed("agglomerate/d1/finish", 1, {})
    assert ledger.failed(JOB) == {9: {"error": "again"}, 10: {"error": "10"}}
    ledger.clear_failed(JOB)
    assert ledger.failed(JOB) == {}
    assert ledger.failed("agglomerate/d1/finish") == {1: {}}


FAILURE = {"index": [1, 0, 2], "reason": "memory", "error": "137", "traceback": "line 12"}


def test_a_damaged_record_of_a_failure_counts_as_none(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.mark_failed(JOB, 7, FAILURE)
    path = tmp_path / "ledger" / JOB / "failed" / "7"
    body = path.read_bytes()
    assert ledger.failed(JOB) == {7: FAILURE}
    for at in range(len(body)):  # in a name, a number, a text or the checksum
        path.write_bytes(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        assert ledger.failed(JOB) in ({}, {7: FAILURE})
    path.write_bytes(json.dumps(FAILURE).encode())  # by an earlier version
    assert ledger.failed(JOB) == {7: FAILURE}
    path.write_bytes(json.dumps(FAILURE).replace("index", "indez").encode())
    assert ledger.failed(JOB) == {}


def test_costs_that_are_no_finite_numbers_are_left_out(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.mark_done(JOB, 0, 1, {"seconds": 2.5, "peak": 7})
    (path,) = (tmp_path / "ledger" / JOB / "done").iterdir()
    path.write_bytes(path.read_bytes().replace(b"2.5", b"2e555").replace(b"7", b'"7"'))
    assert ledger.progress(JOB) == ([(0, 1)], 0.0)
    assert ledger.costs(JOB) == [{"start": 0, "stop": 1}]


def test_a_purge_keeps_one_digest_and_other_steps(tmp_path):
    ledger = Ledger(str(tmp_path))
    jobs = ["a/d1/map", "a/d2/map", "a/d2/finish", "a/d22/map", "ab/d1/map"]
    for job in jobs:
        ledger.mark_done(job, 0, 1, {})
        ledger.mark_failed(job, 1, {})
    ledger.purge_step("a", keep_digest="d2")
    assert [job for job in jobs if ledger.done(job) and ledger.failed(job)] == [
        "a/d2/map",
        "a/d2/finish",
        "ab/d1/map",
    ]
    ledger.purge_step("a")
    assert [job for job in jobs if ledger.done(job) or ledger.failed(job)] == ["ab/d1/map"]


def test_reading_many_markers_is_one_listing(tmp_path, monkeypatch):
    folder = tmp_path / "ledger" / JOB / "done"
    folder.mkdir(parents=True)
    for number in range(0, 20_000, 2):
        (folder / f"{number}-{number + 1}").touch()

    def asked(*arguments, **named):
        raise AssertionError("a marker was asked for by its name")

    for name in ("find", "read", "read_many", "read_json", "present"):
        monkeypatch.setattr(Store, name, asked)
    assert len(Ledger(str(tmp_path)).done(JOB)) == 10_000


def test_a_layer_knows_its_owner_by_scale(tmp_path):
    address = f"precomputed://{tmp_path}/layer"
    assert owner(address) is None
    set_owner(address, "d1")
    set_owner(address, "d2", scale=1)
    assert (owner(address), owner(address, 1), owner(address, 2)) == ("d1", "d2", None)
    Store(address).write("volflow.owner.0.json", b"[]")
    with pytest.raises(StorageError, match="expected keys and values"):
        owner(address)
