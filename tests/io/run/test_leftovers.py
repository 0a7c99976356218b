"""Half-written files of a killed process are deleted; complete ones stay."""

from __future__ import annotations

from pathlib import Path

from volflow.io.run.leftovers import remove_leftovers


def test_unfinished_markers_and_events_go_and_nothing_else(tmp_path: Path) -> None:
    remaining = ["ledger/a/d/map/done/0-1", "events/s/000000.jsonl", "layer/0.__lock", "ledger/b/x"]
    torn = ["ledger/a/d/map/done/1-2.__lock", "ledger/c.__lock", "results/score.json.__lock"]
    for name in (*remaining, *torn):
        place = tmp_path / "run" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs.__lock").touch()
    (tmp_path / "run/ledger/linked").symlink_to(outside)
    assert remove_leftovers(str(tmp_path / "run")) == len(torn)
    run = tmp_path / "run"
    actual = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    assert sorted(actual) == sorted(remaining)
    assert (outside / "theirs.__lock").exists()
    assert remove_leftovers(str(run)) == 0


def test_a_run_that_is_not_there_or_not_on_a_disk_has_none(tmp_path: Path) -> None:
    assert remove_leftovers(str(tmp_path / "none")) == 0
    assert remove_leftovers("s3://bucket/run") == 0


def test_keys_and_the_file_that_workers_look_for_go(tmp_path: Path) -> None:
    (tmp_path / "volflow-keys").mkdir()
    (tmp_path / "volflow-keys" / "key").touch()
    (tmp_path / ".volflow-0123456789abcdef").touch()
    (tmp_path / "volflow.lock.json").touch()
    assert remove_leftovers(str(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["volflow.lock.json"]
