"""`retry` continues as the run was last started, unless other workers are chosen."""

from __future__ import annotations

import json

import pytest

from volflow.engine import driver
from volflow.engine.executors import connect as connect_module

POISON = [[1, 0, 2]]


@pytest.fixture
def clusters(monkeypatch):
    """Kinds of cluster, numbers of workers and time limits of the executors that were opened."""
    opened = []
    module = connect_module.executor_module("none")

    def connect(profile, **request):
        opened.append((profile.kind, profile.workers, request["timeout"]))
        return module.open_executor(profile, None)

    monkeypatch.setattr(driver, "connect", connect)
    return opened


def test_a_run_is_resumed_on_the_workers_it_was_started_with(volflow, toy, tmp_path, clusters):
    cure, run = tmp_path / "cure", tmp_path / "run"
    pipeline = toy({"raises": POISON, "cured_by": str(cure)}, "Poison")
    options = ("--cluster", "local", "--workers", 2, "--timeout", 60)
    assert volflow("run", pipeline, *options).exit_code == 3
    assert volflow("retry", run).exit_code == 3
    assert volflow("retry", run, "--timeout", 30).exit_code == 3
    assert clusters == [("local", 2, 60.0), ("local", 2, 60.0), ("local", 2, 30.0)]
    assert volflow("retry", run, "--cluster", "none").exit_code == 3
    assert clusters[-1] == ("none", None, 0.0), "a chosen cluster brings its own options"
    cure.touch()
    assert volflow("retry", run).exit_code == 0
    assert clusters[-1] == ("none", None, 0.0), "the last start counts"


def test_a_parameter_is_changed_and_only_its_step_runs_again(volflow, toy, tmp_path):
    assert volflow("run", toy()).exit_code == 0
    run = tmp_path / "run"
    again = volflow("retry", run, "--set", "steps.double.attempts=2", "--json")
    assert json.loads(again.stdout)["steps"][0]["already"] == 48
    changed = volflow("retry", run, "--set", "steps.index.seconds=0.001", "--json")
    steps = json.loads(changed.stdout)["steps"]
    assert [step["already"] for step in steps] == [0, 0]
    assert "seconds: 0.001" in (run / "pipeline.yaml").read_text()
    remaining = volflow("retry", run, "--json")
    assert [step["already"] for step in json.loads(remaining.stdout)["steps"]] == [48, 48]


def test_a_mistake_in_a_changed_parameter_is_reported_by_its_option(volflow, toy, tmp_path):
    assert volflow("run", toy()).exit_code == 0
    wrong = volflow("retry", tmp_path / "run", "--set", "steps.index.secnds=1")
    assert wrong.exit_code == 2
    assert "--set steps.index.secnds=1" in wrong.stderr
