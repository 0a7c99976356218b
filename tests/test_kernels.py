"""Compiled functions: their machine code is stored by version of the sources, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from volflow import kernels

ROOT = Path(__file__).parents[1]
INNER = "from volflow.kernels import kernel\n@kernel\ndef step(x):\n    return x + {step}\n"
OUTER = (
    "from volflow.kernels import kernel\nfrom volflow.segment.inner import step\n"
    "@kernel\ndef twice(x):\n    return step(step(x))\n"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package `volflow` of two kernels in two files, one of which uses the other."""
    folder = tmp_path / "code" / "volflow"
    (folder / "segment").mkdir(parents=True)
    for name in ("kernels.py", "version.py"):
        shutil.copy(ROOT / "volflow" / name, folder)
    for name in ("__init__.py", "segment/__init__.py"):
        (folder / name).touch()
    (folder / "segment" / "inner.py").write_text(INNER.format(step=1))
    (folder / "segment" / "outer.py").write_text(OUTER)
    return folder


def twice(package: Path, home: Path, code: str = "", **environment: str) -> str:
    """Standard output of a process of its own that prints `twice(0)`."""
    settings = {"HOME": str(home), "PYTHONPATH": str(package.parent), **environment}
    known = {key: os.environ[key] for key in ("PATH",) if key in os.environ}
    code = f"from volflow.segment.outer import twice; print(twice(0)); {code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=known | settings,
        cwd=home.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def compiled(folder: Path) -> set[Path]:
    """The folders below a folder in which numba stored machine code."""
    return {path.parent for path in folder.rglob("*.nbc")}


def test_a_kernel_uses_the_present_source_of_a_function_in_another_file(package, tmp_path):
    home = tmp_path / "home"
    assert twice(package, home) == "2"
    (first,) = (home / ".cache" / "volflow" / "kernels").iterdir()
    (package / "segment" / "inner.py").write_text(INNER.format(step=10))
    assert twice(package, home) == "20"
    assert len(list(first.parent.iterdir())) == 2
    assert compiled(package) == set()
    hits = "print(sum(twice.stats.cache_hits.values()))"
    assert twice(package, home, hits) == "20\n1"  # and the machine code is used again


def test_numba_is_imported_by_the_first_call(package, tmp_path):
    code = (
        "import sys, volflow.segment.outer as outer\n"
        "print('numba' in sys.modules, outer.twice.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path / "home"), "PYTHONPATH": str(package.parent)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False", "twice"]
    assert (
        twice(package, tmp_path / "home", "import sys; print('numba' in sys.modules)") == "2\nTrue"
    )


def test_the_users_own_folder_comes_first_and_other_kernels_keep_theirs(package, tmp_path):
    home, own, cache = (tmp_path / name for name in ("home", "own", "cache"))
    assert twice(package, home, XDG_CACHE_HOME=str(cache)) == "2"
    assert compiled(cache)
    code = "from numba import config; print(config.CACHE_DIR)"
    printed = twice(package, home, code, NUMBA_CACHE_DIR=str(own), XDG_CACHE_HOME=str(cache))
    assert printed == f"2\n{own}"
    assert all(own / "volflow" in folder.parents for folder in compiled(own))
    assert compiled(own)
    assert (
        twice(package, home, "from numba import config; print(repr(config.CACHE_DIR))") == "2\n''"
    )


def test_without_a_writable_home_the_package_holds_the_kernels_or_nothing_does(package, tmp_path):
    home = tmp_path / "home"
    home.write_text("a file, so that no folder can be made below it")
    assert twice(package, home) == "2"
    inside = package / "__pycache__" / "kernels"
    assert len(list(inside.iterdir())) == 1
    assert all(inside in folder.parents for folder in compiled(package))
    shutil.rmtree(inside)
    inside.touch()
    code = "from volflow.kernels import cache_folder; print(cache_folder())"
    assert twice(package, home, code) == "2\nNone"
    assert compiled(tmp_path) == set()


def test_the_digest_covers_all_that_kernels_are_made_of():
    holders = {
        path: path.read_text(encoding="utf-8")
        for path in kernels.PACKAGE.rglob("*.py")
        if "import kernel\n" in path.read_text(encoding="utf-8")
    }
    assert len(holders) > 20
    used = {
        name
        for text in holders.values()
        for name in re.findall(r"^from volflow\.(\w+)", text, re.M)
    }
    used |= {path.relative_to(kernels.PACKAGE).parts[0] for path in holders}
    assert used - {"errors"} == {Path(source).stem for source in kernels.SOURCES}
    assert all((kernels.PACKAGE / source).exists() for source in kernels.SOURCES)
