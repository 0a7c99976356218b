"""Help, schema, and the bundled files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from volflow.cli import SECTIONS, VERBS, main
from volflow.cli.demo import _missing_viewer

HEAVY = ["numba", "dask", "distributed", "tensorstore", "torch", "scipy", "pydantic", "bokeh"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from volflow.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(volflow, verb):
    result = volflow(verb, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4
    assert re.search(r"-v, --verbose +Show the log", result.output)
    assert re.search(r"-q, --quiet +Print results", result.output)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_and_its_meaning_are_in_the_help(volflow, verb):
    command = main.get_command(click.Context(main), verb)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_help_names_every_verb_in_full_and_every_exit_code(volflow):
    text = volflow("--help").output
    assert all(f"  {verb} " in text for verb in VERBS)
    assert "..." not in text.partition("Options:")[2]
    assert all(f"    {code} " in text for code in (0, 1, 2, 3, 4, 5, 6, 130))
    assert all(f"{section}:" in text for section in SECTIONS)


@pytest.mark.parametrize("place", ["make_context", "get_command", "invoke"])
def test_ctrl_c_ends_with_130_whenever_it_comes(volflow, monkeypatch, place):
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(main), place, interrupted)
    result = volflow("status", "nowhere")
    assert (result.exit_code, result.stderr.strip()) == (130, "volflow: interrupted")


def test_an_unknown_verb_ends_with_2(volflow):
    assert volflow("runn").exit_code == 2


def test_the_schema_is_json_and_knows_the_stages(volflow):
    result = volflow("schema")
    schema = json.loads(result.stdout)
    assert "properties" in schema["$defs"]["Pipeline"]
    assert "levels" in schema["$defs"]["Pyramid"]["properties"]


@pytest.mark.parametrize(
    ("kind", "key"),
    [("profile", "cluster"), ("training", "sources"), ("pretraining", "crop"), ("pipeline", None)],
)
def test_every_kind_of_file_has_a_schema(volflow, kind, key):
    schema = json.loads(volflow("schema", "--kind", kind).stdout)
    if key is None:
        assert schema == json.loads(volflow("schema").stdout)
    else:
        assert schema["properties"][key]["description"]


def test_install_lines_name_no_index_that_lacks_us():
    root = Path(__file__).parents[2]
    folders = ("volflow", "docs", "pipelines", "deploy", "examples", "benchmarks")
    files = [path for folder in folders for path in (root / folder).rglob("*.*")]
    pattern = re.compile(r"pip install [^\n|]*\bvolflow\b(?!/)")
    wrong = [
        f"{path}: {match[0]}"
        for path in [*files, *root.glob("*.md"), root / "Makefile"]
        if path.suffix in (".py", ".md", ".yaml", "")
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_the_demo_says_what_looking_at_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    assert "which needs the package neuroglancer" in _missing_viewer()
    monkeypatch.setitem(sys.modules, "neuroglancer", sys)
    assert _missing_viewer() == ""
