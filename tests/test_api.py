"""The public interface: what `from volflow import ...` offers, and how a run looks from Python."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import volflow

ROOT = Path(__file__).parents[1]
HEAVY = ["numba", "dask", "distributed", "tensorstore", "torch", "scipy", "pydantic", "numpy"]


@pytest.fixture
def document(tmp_path):
    """A pipeline of two toy steps, 48 blocks each."""
    return {
        "run": str(tmp_path / "run"),
        "bounds": "0:32,0:24,0:32",
        "block": [8, 8, 8],
        "resolution": [10, 8, 8],
        "steps": [
            {"use": "tests.engine.toys:Index", "name": "index"},
            {"use": "tests.engine.toys:Double", "name": "double"},
        ],
    }


def test_import_volflow_is_light():
    code = f"import sys, volflow; print([n for n in {HEAVY!r} if n in sys.modules]); volflow.run"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_dir_shows_the_public_names_and_each_is_there():
    assert dir(volflow) == sorted(volflow.__all__)
    assert {"run", "plan", "open_volume", "Stage", "Reduction", "Grouping", "Layer", "Columns",
            "Block", "BlockGrid", "Box", "Zyx", "Phase", "Up", "PreviousRound", "Plan",
            "RunResult", "Volume", "PlanError", "metrics"} <= set(volflow.__all__)  # fmt: skip
    for name in volflow.__all__:
        assert getattr(volflow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = volflow.runn


@pytest.mark.parametrize("package", [volflow, volflow.metrics])
def test_type_checkers_see_the_names_that_are_there(package):
    tree = ast.parse(Path(package.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module if alias.name != "metrics" else "volflow.metrics"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == package._HOME
    assert set(typed) == set(package.__all__) - {"__version__"}
    for name, module in typed.items():
        if name != "metrics":
            assert getattr(package, name) is getattr(importlib.import_module(module), name)


def test_metrics_are_functions_of_arrays():
    truth = np.repeat([1, 2], 4).astype("uint64").reshape(2, 2, 2)
    table = volflow.metrics.contingency(truth, np.ones_like(truth))
    assert volflow.metrics.variation_of_information(table).merge == pytest.approx(1.0)  # one bit


def test_examples_import_from_the_public_interface_only():
    for path in (ROOT / "examples").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in [*names, *([module] if module else [])]:
                assert not name.startswith("volflow."), f"{path.name}: {name}"


def test_a_plan_starts_nothing(document, tmp_path):
    planned = volflow.plan(document, overrides=["steps.double.times=5"], until="index")
    assert isinstance(planned, volflow.Plan)
    assert [step.name for step in planned.chosen] == ["index"]
    assert sum(step.blocks for step in planned.steps) == 96
    assert not (tmp_path / "run").exists()


def test_volumes_of_a_run_are_arrays_by_absolute_voxel(document):
    document["bounds"] = "8:32,0:24,0:32"
    result = volflow.run(document)
    assert list(result.volumes) == ["index", "double"]
    index, double = result.volumes["index"], result.volumes["double"]
    assert double.shape == (24, 24, 32)
    whole = double.read(double.bounds)
    assert whole.min() > 0
    np.testing.assert_array_equal(double[8:20, 3, 4:], whole[:12, 3, 4:])
    np.testing.assert_array_equal(np.asarray(double), 2 * index[...])
    assert double[31, 23, 31] == whole[-1, -1, -1]
    with pytest.raises(KeyError, match=r"no volume 'indx' \(volumes: index, double\)"):
        _ = result.volumes["indx"]
    path = result.volumes["double"].address
    np.testing.assert_array_equal(volflow.open_volume(path)[8:9], whole[:1])


@pytest.mark.parametrize("shape", [(9, 8, 7), (3, 9, 8, 7)])
def test_an_array_written_is_the_array_read(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 9, shape, dtype="uint8")
    address = f"zarr://{tmp_path}/array"
    options = {"resolution": (40, 8, 8), "offset": (-1, 0, 100), "chunk": (4, 4, 4)}
    for values in (array, array[..., ::-1]):  # the second in place of the first
        volflow.write_volume(address, values, **options)
        volume = volflow.open_volume(address)
        np.testing.assert_array_equal(volume[...], values)
        assert volume.bounds == volflow.Box((-1, 0, 100), (8, 8, 107))
        assert volume.resolution == (40, 8, 8)
    with pytest.raises(ValueError, match=r"got shape \(7,\)"):
        volflow.write_volume(address, array[..., 0, 0, :].reshape(-1)[:7], **options)


def test_volumes_are_opened_when_they_are_first_read(document, monkeypatch):
    result = volflow.run(document)

    def fail(*_arguments: object, **_options: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("volflow.io.volume.Volume.open", fail)
    volumes = result.volumes
    with pytest.raises(AssertionError, match="opened"):
        list(volumes)


def test_a_notebook_shows_a_result_as_a_table(document):
    text = volflow.run(document)._repr_html_()
    assert "<td>double</td><td>48</td><td>48</td><td>0</td>" in text
    assert "<td>index</td><td>32 x 24 x 32</td>" in text
    assert ": done</b>" in text


def test_a_notebook_shows_numbers_of_results_and_escapes_names(tmp_path):
    result = volflow.RunResult(
        str(tmp_path / "<b>"), results={"score": {"vi": 0.51234, "worst": [1], "voxels": 12345}}
    )
    text = result._repr_html_()
    assert "<td>score</td><td>vi</td><td>0.5123</td>" in text
    assert "<td>12,345</td>" in text
    assert "worst" not in text
    assert "&lt;b&gt;" in text


def test_a_script_without_a_terminal_is_silent(document, capfd):
    assert volflow.run(document).ok
    assert capfd.readouterr() == ("", "")


def test_progress_can_be_asked_for(document, capfd):
    volflow.run(document, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "index: 48 blocks" in err
    with pytest.raises(ValueError, match="progress=True or an observer"):
        volflow.run(document, progress=True, observer=volflow.RunObserver())


SCRIPT = "import volflow, sys; assert volflow.run({document!r}, progress={progress}).ok"


@pytest.mark.parametrize("progress", [None, False])
def test_a_terminal_shows_progress_unless_silenced(document, progress):
    driver, terminal = pty.openpty()
    code = SCRIPT.format(document=document, progress=progress)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(terminal)
        text = io.BytesIO()
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while part := os.read(driver, 4096):
                text.write(part)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(driver)
    assert process.returncode == 0, text.getvalue().decode()
    assert (b"double" in text.getvalue()) is (progress is None)
