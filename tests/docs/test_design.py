"""The page on the design is short, and agrees with the tests that hold it."""

from __future__ import annotations

import re
import tomllib

from tests.docs.pages import ROOT
from tests.engine.test_reading_path import READING_ORDER

PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def test_it_is_at_most_60_lines():
    assert len(PAGE.splitlines()) <= 60


def test_the_reading_order_is_that_of_the_tests():
    section = PAGE.partition("## Reading order")[2]
    assert tuple(re.findall(r"`([\w/]+\.py)`", section)) == READING_ORDER


def test_the_layers_are_those_of_the_import_contract():
    layers = PAGE.partition("## Layers\n```text\n")[2].partition("```")[0]
    shown = [set(re.split(r" \| ", line[:33].strip())) for line in layers.splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    declared = [
        {name.strip().removeprefix("volflow.") for name in layer.split("|")}
        for layer in contracts["contracts"][0]["layers"]
    ]
    assert shown == [layer for layer in declared if layer != {"api"}]
