"""Checked YAML files: overrides, places of problems, and keys taken from the models."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from volflow.config.checked_file import load_file
from volflow.config.keys import keys_of, model_at, type_at
from volflow.config.pipeline import Pipeline, StepSpec, VolumeSpec, load, read
from volflow.config.spec import Spec
from volflow.errors import PlanError


class Inner(Spec):
    name: str = "x"
    note: str | None = "y"
    level: int | None = None
    size: Annotated[int, Field(ge=1)] = 1


class Outer(Spec):
    RENAMED: ClassVar[dict[str, str]] = {"old": "new"}

    new: int = 0
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Field(default_factory=dict)
    maybe: Inner | None = None
    shape: tuple[int, int] = (1, 1)


TEXT = """\
new: 3
items:
  - {name: a}
  - {name: b, size: 2}
named:
  one: {size: 4}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o.yaml").write_text(TEXT)
    return "o.yaml"


def problem(file: str, *overrides: str) -> str:
    with pytest.raises(PlanError) as caught:
        load_file(file, Outer, overrides)
    (sentence,) = caught.value.problems
    return sentence


def test_items_are_set_by_number_and_entries_by_name(file):
    overrides = ["items.1.size=7", "named.one.name=z", "named.two.size=5", "maybe.size=6"]
    outer, where = load_file(file, Outer, overrides)
    assert [(item.name, item.size) for item in outer.items] == [("a", 1), ("b", 7)]
    assert (outer.named["one"].name, outer.named["one"].size) == ("z", 4)
    assert outer.named["two"].size == 5
    assert outer.maybe == Inner(size=6)
    assert where.of(("items", 1, "size")) == "--set items.1.size=7"
    assert where.of(("items", 1, "name")) == "o.yaml:4"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "items.2.size=1",
            "--set items.2.size=1: expected the number of an item, below 2; got '2'",
        ),
        (
            "items.x.size=1",
            "--set items.x.size=1: expected the number of an item, below 2; got 'x'",
        ),
        ("items.0.sise=1", "unknown key 'sise'; did you mean 'size'?"),
        ("named.one.nme=1", "unknown key 'nme'; did you mean 'name'?"),
        ("maybe.level.x=1", "--set maybe.level.x=1: there is nothing that could hold this key"),
        ("new.x=1", "--set new.x=1: there is nothing that could hold this key"),
        ("items.0.size=0", "--set items.0.size=0: items[0].size: expected greater than or equal"),
        ("old=1", "--set old=1: unknown key 'old': it was renamed to 'new'"),
    ],
)
def test_an_override_that_does_not_fit_is_one_problem_that_names_it(file, override, message):
    assert message in problem(file, override)


def test_an_empty_value_is_an_empty_string_where_a_string_is_expected(file):
    outer, _ = load_file(file, Outer, ["items.0.name=", "items.0.note=", "inner.level="])
    assert outer.items[0].name == ""
    assert outer.items[0].note is None
    assert outer.inner.level is None
    assert "items[0].size: expected a valid integer; got None" in problem(file, "items.0.size=")


PIPELINE = """\
run: out
volumes: {em: {path: em.zarr}}
steps:
  - use: predict
    with: {model: fib25-lsd, flips: zyx}
  - use: own_for_empty_values:Own
    with: {text: x, number: 1}
"""


def test_an_empty_stage_parameter_is_an_empty_string_where_one_is_expected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_for_empty_values.py").write_text(
        "from volflow.core.stage import Stage\n"
        "class Own(Stage):\n"
        "    text: str\n"
        "    number: int | None = None\n"
    )
    (tmp_path / "p.yaml").write_text(PIPELINE)
    overrides = ["steps.predict.flips=", "steps.own.text=", "steps.own.number="]
    predict, own = load("p.yaml", overrides).steps
    assert predict.with_["flips"] == ""
    assert own.with_ == {"text": "", "number": None}


def test_a_stage_that_is_missing_does_not_hide_its_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE.replace("use: predict", "use: predct"))
    draft = read("p.yaml", ["steps.predct.flips="])
    assert draft.pipeline is not None
    assert draft.pipeline.steps[0].with_["flips"] is None


def test_former_keys_are_named_with_their_new_names(file, tmp_path):
    (tmp_path / "o.yaml").write_text(TEXT.replace("new:", "old:"))
    assert problem(file) == "o.yaml:1: old: unknown key 'old': it was renamed to 'new'"


def test_keys_and_types_are_those_of_the_models():
    assert model_at(Pipeline, ("volumes", "em")) is VolumeSpec
    assert model_at(Pipeline, ("steps", 3)) is StepSpec
    assert model_at(Pipeline, ("steps", 0, "with")) is None
    assert model_at(Outer, ("maybe",)) is Inner
    assert type_at(Outer, ("shape", 1)) is int
    assert type_at(Outer, ("shape", 2)) is None
    assert type_at(Outer, ("nothing", "below")) is None
    assert "with" in keys_of(StepSpec)
