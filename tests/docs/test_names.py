"""Names of the code that the documentation mentions exist."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import volflow
from tests.docs.pages import CARDS, PAGES, ROOT, code_blocks, code_spans
from volflow.config.bundled import bundled
from volflow.config.pipeline import Pipeline, Spec, StepSpec, VolumeSpec
from volflow.core.stage import installed_stages
from volflow.engine.job import PlannedStep

DOTTED = re.compile(r"(volflow(?:\.\w+)+)(?:\((.*)\))?")
MEMBER = re.compile(r"([A-Z]\w+)\.(\w+)(?:\(.*\))?")
CLASSES = {name: getattr(volflow, name) for name in volflow.__all__ if name[0].isupper()}
CLASSES["PlannedStep"] = PlannedStep
FILES = (".yaml", ".md", ".json", ".csv", ".py", ".safetensors", ".html", ".png")


def resolved(name: str) -> object:
    """The module, or the value in one, that a dotted name leads to; None if there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part, None)
        return value
    return None


def takes(function: object, arguments: str | None) -> bool:
    """Whether a function has parameters of the names in `a, b=3, key="x"`."""
    if not arguments:
        return True
    names = {argument.partition("=")[0].strip() for argument in arguments.split(",")}
    return callable(function) and names <= inspect.signature(function).parameters.keys()


def unknown_names(page: Path) -> list[str]:
    spans = [(line, span) for line, span in code_spans(page)]
    unknown = []
    for line, span in spans:
        if (match := DOTTED.fullmatch(span)) and not span.endswith(FILES):
            value = resolved(match.group(1))
            known = value is not None and takes(value, match.group(2))
        elif (match := MEMBER.fullmatch(span)) and match.group(1) in CLASSES:
            cls, member = CLASSES[match.group(1)], match.group(2)
            known = hasattr(cls, member) or member in getattr(cls, "__annotations__", {})
        else:
            continue
        if not known:
            unknown.append(f"line {line}: {span}")
    return unknown


@pytest.mark.parametrize("page", PAGES + CARDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_between_backticks_exist(page: Path) -> None:
    assert unknown_names(page) == []


def test_unknown_names_are_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`volflow.run` `volflow.rum` `volflow.metrics.voxels.none` `Stage.halo` `Stage.hola`\n"
        "`Plan.steps` `volflow.lock.json` `volflow.open_volume(address)` `volflow.run(pipe)`\n"
    )
    assert [name.partition(": ")[2] for name in unknown_names(page)] == [
        "volflow.rum",
        "volflow.metrics.voxels.none",
        "Stage.hola",
        "volflow.run(pipe)",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_stages_after_the_word_stage_exist(page: Path) -> None:
    names = [
        name
        for sentence in re.findall(r"\b[Ss]tages? ((?:`\w+`(?:, | and | or )?)+)", page.read_text())
        for name in re.findall(r"`(\w+)`", sentence)
    ]
    assert set(names) <= installed_stages().keys()


def test_pipelines_of_the_readme_are_bundled() -> None:
    text = (ROOT / "README.md").read_text()
    names = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert len(names) >= 5
    assert {f"{name}.yaml" for name in names} <= {p.name for p in (ROOT / "pipelines").iterdir()}


def test_pages_have_blocks_to_check() -> None:
    assert sum(len(code_blocks(page)) for page in PAGES) > 40


@pytest.mark.parametrize("model", [Pipeline, StepSpec, VolumeSpec])
def test_the_page_of_pipelines_has_every_key(model: type[Spec]) -> None:
    text = (ROOT / "docs" / "pipelines.md").read_text()
    keys = {field.alias or name for name, field in model.model_fields.items()}
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_page_of_pipelines_has_every_bundled_one() -> None:
    text = (ROOT / "docs" / "pipelines.md").read_text()
    assert {name for name in bundled("pipelines") if f"`{name}`" not in text} == set()


def test_the_page_on_installing_has_every_extra() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name for name in project["optional-dependencies"] if f"`{name}`" not in text} == set()
