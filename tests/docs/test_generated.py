"""Generated pages are up to date, and the API pages can be built."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import volflow
from tests.docs.pages import ROOT
from volflow.core.stage import find_stage, installed_stages


@pytest.fixture(scope="module")
def make_stages() -> ModuleType:
    """The script that writes docs/stages.md."""
    spec = importlib.util.spec_from_file_location("make_stages", ROOT / "docs/make_stages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_stages_is_up_to_date(make_stages: ModuleType) -> None:
    page = (ROOT / "docs/stages.md").read_text(encoding="utf-8")
    assert page == make_stages.page(), "docs/stages.md is out of date; run `make docs`"


def test_the_page_of_stages_has_every_stage_and_parameter(make_stages: ModuleType) -> None:
    page = make_stages.page()
    for name in installed_stages():
        _, heading, rest = page.partition(f"\n## {name}\n")
        assert heading
        section = rest.partition("\n## ")[0]
        for parameter in find_stage(name).model_fields:
            assert f"| `{parameter}` |" in section


def test_public_names_have_docstrings() -> None:
    public = [getattr(volflow, name) for name in volflow.__all__ if not name.startswith("__")]
    own = [value for value in public if getattr(value, "__module__", "").startswith("volflow")]
    assert len(own) > 10
    assert [value for value in own if not value.__doc__] == []


def undocumented_fields(kind: type) -> list[str]:
    """Public fields of a dataclass that no docstring describes, theirs or that of the class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    described = {
        field.target.id
        for field, text in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    }
    names = [field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")]
    listed = re.findall(r"^ +(\w+) : |`(\w+)`", kind.__doc__ or "", re.MULTILINE)
    described |= {name for pair in listed for name in pair}
    return [name for name in names if name not in described]


def test_public_fields_are_described() -> None:
    kinds = [getattr(volflow, name) for name in volflow.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    assert len(kinds) > 8
    assert {kind.__name__: undocumented_fields(kind) for kind in kinds} == {
        kind.__name__: [] for kind in kinds
    }


@pytest.mark.slow
def test_api_pages_are_built(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    options = ["--docformat", "numpy", "--no-include-undocumented", "--no-show-source"]
    command = [sys.executable, "-W", "ignore::UserWarning", "-m", "pdoc", "volflow", *options]
    subprocess.run([*command, "--output-directory", tmp_path], check=True, timeout=300)
    page = (tmp_path / "volflow.html").read_text(encoding="utf-8")
    for name in ("run", "plan", "open_volume", "RunResult", "Volume", "Stage", "Reduction"):
        assert f'id="{name}"' in page
    assert (tmp_path / "volflow" / "metrics.html").is_file()
