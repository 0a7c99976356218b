"""`--json`, `-q` and `-v`: what is on stdout and stderr."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.cli.test_run import POISON


def test_a_run_as_json_is_its_summary_alone_on_stdout(volflow, toy, tmp_path):
    result = volflow("run", toy(), "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert document["run"] == str(tmp_path / "run")
    assert [(step["name"], step["done"]) for step in document["steps"]] == [
        ("index", 48),
        ("double", 48),
    ]
    assert "index: 48 blocks" in result.stderr  # the progress
    stored = json.loads((tmp_path / "run/summary.json").read_text())
    assert document.keys() == stored.keys() - {"checksum", "report"}


def test_failed_blocks_are_in_the_json_of_a_run_and_of_retry(volflow, toy, tmp_path):
    first = volflow("run", toy({"raises": POISON}, "Poison"), "--json")
    again = volflow("retry", tmp_path / "run", "--json", "-q")
    for result in (first, again):
        assert result.exit_code == 3
        document = json.loads(result.stdout)
        assert document["ok"] is False
        assert [each["index"] for each in document["failures"]] == POISON
        assert "2 blocks failed" in result.stderr
    assert "index: 48 blocks" not in again.stderr


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_problems_are_json_too(volflow, toy, verb):
    result = volflow(verb, toy(blok=[8, 8, 8]), "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert any("blok" in text for text in document["problems"])
    assert "nothing was started" in result.stderr


def test_a_plan_as_json(volflow, toy, tmp_path):
    pipeline = toy(volumes={"double": {"path": f"zarr://{tmp_path}/d.zarr"}})
    result = volflow("plan", pipeline, "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    index, double = document.pop("steps")
    assert document.pop("memory_by_pool").keys() == {"cpu"}
    assert document == {
        "ok": True,
        "run": str(tmp_path / "run"),
        "bounds": "0:32,0:24,0:32",
        "resolution": [10.0, 8.0, 8.0],
        "blocks": 96,
        "bytes_out": index["bytes_out"] + double["bytes_out"],
        "warnings": [],
        "downsampled": {},
    }
    assert index["use"] == "tests.engine.toys:Index"
    assert (index["block"], index["phases"], index["blocks"]) == ([8, 8, 8], 1, 48)
    assert double["writes"] == [f"zarr://{tmp_path}/d.zarr"]


@pytest.mark.slow
def test_a_trial_as_json(volflow, toy):
    result = volflow("plan", toy(), "--json", "--trial", "2", "--workers", "3")
    estimate = json.loads(result.stdout)["estimate"]
    assert estimate["workers"] == 3
    assert estimate["hours"] > 0
    assert [(step["name"], step["blocks_run"]) for step in estimate["steps"]] == [
        ("index", 2),
        ("double", 2),
    ]


def test_a_dry_run_as_json(volflow, toy, tmp_path):
    document = json.loads(volflow("run", toy(), "--dry-run", "--json").stdout)
    assert document == {"run": str(tmp_path / "run"), "job_scripts": {}}
    assert not (tmp_path / "run").exists()


def test_a_quiet_run_prints_nothing_but_errors(volflow, toy):
    pipeline = toy()
    for place in (("-q", "run", pipeline), ("run", pipeline, "--quiet")):
        result = volflow(*place)
        assert (result.exit_code, result.output) == (0, "")
    result = volflow("run", toy({"raises": POISON}, "Poison"), "-q")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "2 blocks failed" in result.stderr


@pytest.mark.parametrize(
    ("options", "level"),
    [([], "WARNING"), (["-v"], "INFO"), (["-vv"], "DEBUG"), (["-q"], "ERROR")],
)
def test_verbosity_is_the_level_of_the_log_before_and_after_the_verb(volflow, options, level):
    for arguments in ([*options, "schema"], ["schema", *options]):
        assert volflow(*arguments).exit_code == 0
        assert logging.getLevelName(logging.getLogger("volflow").level) == level


def test_the_log_is_on_stderr(volflow, toy, monkeypatch):
    def report(*_arguments: object, **_options: object) -> None:
        logging.getLogger("volflow.test").info("seventeen")

    monkeypatch.setattr("volflow.cli.terminal.execution.run_with_progress", report)
    assert volflow("run", toy(), "-v").stderr == "INFO volflow.test: seventeen\n"
    assert volflow("run", toy()).stderr == ""


def test_every_key_of_the_lists_is_on_the_page(volflow, toy, tmp_path):
    page = (Path(__file__).parents[2] / "docs/json.md").read_text()
    plan = json.loads(volflow("plan", toy(), "--json").stdout)
    run = json.loads(volflow("run", toy({"raises": POISON}, "Poison"), "--json").stdout)
    status = json.loads(volflow("status", tmp_path / "run", "--json").stdout)
    documents = [plan["steps"][0], run["steps"][0], run["failures"][0], status["steps"][0]]
    assert [key for document in documents for key in document if f"`{key}`" not in page] == []
