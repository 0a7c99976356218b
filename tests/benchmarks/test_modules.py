"""Every benchmark imports, its docstring begins with its command, and the Makefile finds it."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
)
PARTS = {"benchmarks.engine.idle_stages"}  # which others run
PEERS = {  # packages that some benchmarks compare with; they are no dependencies
    "benchmarks.engine.daisy_side": "daisy",
    "benchmarks.segmentation.kernels": "waterz",
}


def docstring(module: str) -> str:
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def test_there_are_benchmarks() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", [name for name in MODULES if name not in PARTS])
def test_a_benchmark_states_its_command(module: str) -> None:
    summary, _, rest = docstring(module).partition("\n")
    assert summary.endswith((".", ":"))
    path = module.replace(".", "/") + ".py"
    assert re.search(rf"^    python (-m {re.escape(module)}|-P {path})\b", rest, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_imports(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if module in PEERS:
        pytest.importorskip(PEERS[module])
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):  # which some benchmarks set
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sys, "argv", [module])
    importlib.import_module(module)


def test_no_folder_of_benchmarks_is_crowded() -> None:
    folders = [path.parent for path in (ROOT / "benchmarks").rglob("*.py")]
    assert max(map(folders.count, folders)) <= 16


def recipe(target: str) -> list[list[str]]:
    """The commands of a target of the Makefile, split into words; make runs none of them."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]


def test_the_makefile_names_benchmarks_that_exist() -> None:
    (loop,) = (words for words in recipe("bench") if words[:3] == ["for", "script", "in"])
    assert "benchmarks.$script" in loop
    scripts = [word.rstrip(";") for word in loop[3 : loop.index("do")]]
    assert len(scripts) > 10
    for script in scripts:
        module, *arguments = f"benchmarks.{script}".split()
        assert module in MODULES
        command = " ".join([module, *(word for word in arguments if word.isalpha())])
        assert f"    python -m {command} " in docstring(module).replace("\n", " \n")


@pytest.mark.parametrize("target", ["bench", "demo", "docs", "fix", "lint", "soak", "test"])
def test_the_makefile_names_modules_and_files_that_exist(target: str) -> None:
    for words in recipe(target):
        for option, name in itertools.pairwise(words):
            if option == "-m" and name.startswith(("tests.", "docs.")):
                place = ROOT / Path(*name.split("."))
                assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name
            elif option.endswith("/python") and name.endswith(".py"):
                assert (ROOT / name).is_file(), name
