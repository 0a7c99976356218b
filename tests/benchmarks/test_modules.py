"""Every benchmark imports, and its docstring begins with its command."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
)
PEERS = {  # packages that some benchmarks compare with; they are no dependencies
    "benchmarks.engine.daisy_side": "daisy",
    "benchmarks.segmentation.kernels": "waterz",
}


def docstring(module: str) -> str:
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def test_there_are_benchmarks() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES)
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
