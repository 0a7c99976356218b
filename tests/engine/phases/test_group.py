"""Rows grouped by key: the same whatever the blocks, the partitions and who died."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.runs import expected_index, planned, toy
from volflow.core.stage import Grouping
from volflow.engine.driver import execute
from volflow.engine.monitor.status import status
from volflow.engine.phases import group as shuffle
from volflow.engine.phases.group import partition
from volflow.errors import StorageError
from volflow.io.store import Store


def expected(base: int = 7) -> dict[str, dict[str, int]]:
    digit, count = np.unique(expected_index() % base, return_counts=True)
    counts = dict(zip(digit.tolist(), count.tolist(), strict=True))
    most = {str(p): max(n for d, n in counts.items() if d % 2 == p) for p in (0, 1)}
    return {"counts": {str(d): n for d, n in counts.items()}, "most": most}


def actual(run: Path, block: list[int], **parameters: Any) -> dict[str, Any]:
    steps = [toy("Index", block=[8, 8, 8]), toy("Digits", block=block, **{"with": parameters})]
    result = execute(planned(run, *steps))
    assert result.ok
    return result.results["digits"]


def remaining(run: Path) -> list[str]:
    """The keys of the step's records."""
    return [f"records/digits/{key}" for key in Store(str(run)).list("records/digits/")]


@pytest.mark.parametrize("block", [[8, 8, 8], [16, 40, 9], [64, 64, 64]])
@pytest.mark.parametrize("parts", [1, 3, 11])
def test_the_same_whatever_blocks_and_partitions(tmp_path, block, parts):
    assert actual(tmp_path / "run", block, parts=parts) == expected()


def test_more_blocks_than_are_gathered_in_one_place(tmp_path):
    run = tmp_path / "run"
    assert actual(run, [8, 2, 8]) == expected()
    assert len([key for key in remaining(run) if "/parts/digit/0/" in key]) > 1


def test_rows_are_combined_before_too_many_have_come_together(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "ROWS_AT_ONCE", 10)
    lengths = []
    joined = shuffle._concatenated

    def watched(records):
        lengths.append(sum(len(record["digit"]) for record in records))
        return joined(records)

    monkeypatch.setattr(shuffle, "_concatenated", watched)
    assert actual(tmp_path / "run", [4, 4, 4]) == expected()
    assert 0 < max(lengths) <= 24  # ten rows or twice seven, and one block's


def test_a_partition_that_lost_what_was_sent_to_it_fails_and_a_repeated_run_of_it_goes_on(tmp_path):
    run = tmp_path / "run"
    steps = [toy("Index"), toy("Digits")]
    execute(planned(run, *steps))
    store = Store(str(run))
    lost = next(key for key in remaining(run) if "/parts/parity/1/" in key)
    body = store.read(lost)
    store.delete(lost)
    for key in store.list("ledger/digits/"):
        if "/parity.group/" in key:
            store.delete(f"ledger/digits/{key}")
    result = execute(planned(run, *steps))
    assert [failure.phase for failure in result.failures] == ["parity.group"]
    assert "is missing" in result.failures[0].error
    store.write(lost, body)
    again = execute(planned(run, *steps))
    assert again.ok
    assert again.results["digits"] == expected()


def test_requirements_that_are_not_met_are_all_reported_and_every_block_is_done(tmp_path):
    steps = [toy("Digits", **{"with": {"base": 8}}) | {"name": name} for name in ("one", "other")]
    result = execute(planned(tmp_path / "run", toy("Index"), *steps))
    assert result.ok
    assert result.unmet == ["step 'one': too many", "step 'other': too many"]
    assert all(step.left == 0 for step in status(str(tmp_path / "run")).steps)


def test_rows_with_the_same_key_go_to_the_same_partition_and_keys_spread():
    rng = np.random.default_rng(0)
    rows = {"a": rng.integers(0, 50, 4000), "b": rng.integers(0, 50, 4000), "c": np.arange(4000)}
    where = partition(rows, ("a", "b"), 8)
    for key in {*zip(rows["a"].tolist(), rows["b"].tolist(), strict=True)}:
        same = where[(rows["a"] == key[0]) & (rows["b"] == key[1])]
        assert len(np.unique(same)) == 1
    assert np.bincount(where, minlength=8).min() > 300
    assert set(where.tolist()) == set(range(8))


def test_a_grouping_without_rows_says_so():
    class Bare(Grouping):
        pass

    with pytest.raises(TypeError, match=r"Bare has no rows\(\)"):
        Bare().rows(None)


def test_store_errors_name_the_record(tmp_path):
    run = tmp_path / "run"
    execute(planned(run, toy("Index"), toy("Digits")))
    key = next(key for key in remaining(run) if "/found/digit/" in key)
    Store(str(run)).write(key, b"VFR1 and then nothing of worth")
    with pytest.raises(StorageError, match="found/digit"):
        execute(planned(run, toy("Index"), toy("Digits")))
