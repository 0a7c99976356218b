"""Modules that a process must not import before its first block."""

import subprocess
import sys

HEAVY = ("bokeh", "dask", "distributed", "numba", "rich.console", "scipy", "torch")
RUN = """
import sys, volflow
steps = [{"use": "synth"}, {"use": "fragments"}, {"use": "agglomerate"}, {"use": "relabel"}]
steps += [{"use": "pyramid", "in": {"labels": "segmentation"}}]
run = {"run": sys.argv[1], "bounds": "0:16,0:32,0:32", "block": [16, 32, 32], "steps": steps}
run |= {"resolution": [10, 10, 10], "volumes": {}}
assert volflow.run(run).ok
"""


def heavy(code: str, *arguments: str) -> list[str]:
    """The heavy modules that a process of its own has imported after some code."""
    code += f"\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    return done.stdout.split()


def test_planning_and_running_import_nothing_heavy():
    code = "import sys, volflow.engine.api, volflow.engine.worker.child_main"
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
    assert heavy(RUN, str(tmp_path / "run")) == []
