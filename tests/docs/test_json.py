"""The keys that docs/json.md lists are those of the output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.docs.pages import ROOT
from volflow.cli import main


def documented(command: str) -> set[str]:
    """The keys in the row of a command, before what the row adds about options."""
    page = (ROOT / "docs" / "json.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{command}"))
    keys = row.split(" | ")[1].partition(";")[0]
    return {key for key in re.findall(r"`(\w+)`", keys) if key != "findings"}


def document(*words: str) -> Any:
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_run_plan_and_status(workplace: Path) -> None:
    options = ["--set", "volumes.affinity.path=affinity.zarr", "--set", "run=out"]
    assert document("plan", "segment", *options).keys() == documented("volflow plan")
    assert document("run", "segment", *options).keys() == documented("volflow run")
    assert document("status", "out").keys() == documented("volflow status")


@pytest.mark.parametrize("verb", ["pipelines", "models"])
def test_lists(verb: str) -> None:
    assert document(verb)[0].keys() == documented(f"volflow {verb}")


def test_doctor() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    (finding, *_) = json.loads(result.stdout)["findings"]
    assert {"ok", *finding} == documented("volflow doctor")


def test_problems_are_a_document() -> None:
    result = CliRunner().invoke(main, ["plan", "segment", "--set", "blokc=[1,1,1]", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout).keys() == {"ok", "problems"}
