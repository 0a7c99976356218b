"""Modules that a process must not import before its first block."""

import subprocess
import sys

HEAVY = ("bokeh", "dask", "distributed", "numba", "rich.console", "scipy", "torch")
STAGES = ("intensity", "predict", "fragments", "agglomerate", "relabel", "borders", "pyramid")
RUN = """
import sys, volflow
steps = [{"use": "tests.view.paint:Paint", "name": "paint"}]
steps += [{"use": "pyramid", "in": {"labels": "segmentation"}, "with": {"levels": 1}}]
run = {"run": sys.argv[1], "bounds": "0:16,0:32,0:32", "block": [16, 32, 32], "steps": steps}
assert volflow.run(run | {"resolution": [10, 10, 10]}).ok
"""


def heavy(code: str, *arguments: str) -> list[str]:
    """The heavy modules that a process of its own has imported after some code."""
    code += f"\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    return done.stdout.split()


def test_planning_and_running_import_nothing_heavy():
    stages = ", ".join(f"volflow.stages.{name}" for name in STAGES)
    code = f"import sys, volflow.engine.api, volflow.engine.worker.child_main, {stages}"
    assert heavy(code) == []


def test_a_dask_worker_imports_nothing_that_runs_blocks():
    code = (
        "import sys, volflow.engine.worker.child_process\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(*[name for name in sys.modules if name.startswith('volflow.')])"
    )
    packages, modules = heavy(code)[:-1], heavy(code)
    assert not {"h5py", "pydantic", "tensorstore", "yaml"} & set(packages)
    assert not [name for name in modules if name.startswith(("volflow.io", "volflow.config"))]


def test_a_finished_run_is_started_again_without_anything_heavy(tmp_path):
    assert "numba" in heavy(RUN, str(tmp_path / "run"))
    assert heavy(RUN, str(tmp_path / "run")) == ["rich.console"]  # for its progress
