"""The path of a reader from the command line to a stored block, and rules that keep it short."""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import volflow
from volflow.cli import main
from volflow.engine.executors.in_process import InProcessExecutor
from volflow.io.formats.stored_array import ChunkedArray

PACKAGE = Path(volflow.__file__).parent
EXECUTOR = Path(inspect.getsourcefile(InProcessExecutor) or "").relative_to(PACKAGE).as_posix()

READING_ORDER = (
    "cli/__init__.py",
    "cli/run.py",
    "cli/terminal/execution.py",
    "engine/api.py",
    "engine/driver.py",
    EXECUTOR,
    "engine/worker/block_range.py",
    "engine/phases/registry.py",
    "engine/phases/map.py",
    "engine/phases/inputs.py",
    "engine/phases/sources.py",
    "engine/phases/outputs.py",
    "io/volume.py",
    "io/formats/stored_array.py",
)
"""Enough to follow a block of a map from `volflow run` to its stored chunk (docs/design.md)."""

DETAILS = {"engine/worker/prefetch.py", "io/formats/conversion.py"}
"""Reading in advance, and the conversion of foreign numbers: on the way of an input, skippable."""


def test_the_reading_order_is_short():
    assert len(READING_ORDER) <= 14
    lines = sum(len((PACKAGE / name).read_text().splitlines()) for name in READING_ORDER)
    assert lines <= 4000


def _stack() -> list[str]:
    """The package's files on the call stack, outermost first, each once."""
    files = [Path(frame.filename) for frame in traceback.extract_stack()]
    inside = [file.relative_to(PACKAGE).as_posix() for file in files if PACKAGE in file.parents]
    return list(dict.fromkeys(inside))


def test_the_calls_of_a_run_stay_in_the_reading_order(tmp_path, monkeypatch):
    em = f"precomputed://{tmp_path}/em"
    voxels = np.arange(16**3, dtype="uint64").reshape(16, 16, 16).astype("uint8")
    volflow.write_volume(em, voxels, resolution=(8, 8, 8))
    stacks: dict[str, list[str]] = {}
    read, write = ChunkedArray.read, ChunkedArray.write

    def noted_read(self, *arguments, **named):
        stacks.setdefault("read", _stack())
        return read(self, *arguments, **named)

    def noted_write(self, *arguments, **named):
        stacks.setdefault("write", [*_stack(), "io/formats/stored_array.py"])
        return write(self, *arguments, **named)

    monkeypatch.setattr(ChunkedArray, "read", noted_read)
    monkeypatch.setattr(ChunkedArray, "write", noted_write)
    file = tmp_path / "p.yaml"
    file.write_text(
        f"run: {tmp_path}/run\nblock: [8, 8, 8]\nvolumes:\n  volume: {{path: '{em}'}}\n"
        "steps: [{use: convert}]\n"
    )
    result = CliRunner().invoke(main, ["run", str(file), "--cluster", "none"])
    assert result.exit_code == 0, result.output
    assert set(stacks["read"]) | set(stacks["write"]) == set(READING_ORDER) | DETAILS
    order = [name for name in stacks["write"] if name in READING_ORDER]
    assert order == [name for name in READING_ORDER if name in order]


KNOW_PHASES = [
    path
    for folder in ("cli", "config", "core", "engine")
    for path in sorted((PACKAGE / folder).rglob("*.py"))
    if PACKAGE / "engine" / "phases" not in path.parents
]


@pytest.mark.parametrize("path", KNOW_PHASES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_phases_distinguish_kinds_of_phases_and_sources(path):
    text = path.read_text()
    assert not re.findall(r"phase\.kind (?:[!=]=|(?:not )?in)\b.*", text)
    assert not re.findall(r"isinstance\([^)]*(?:\bPhase|Source|Reduction|Grouping)\b.*", text)


def test_no_folder_of_code_has_more_than_16_files():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / "stages"}:
        files = sorted(path.name for path in folder.glob("*.py"))
        assert len(files) <= 16, f"{folder.relative_to(PACKAGE)}: {', '.join(files)}"
