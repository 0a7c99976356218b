"""Modules that a process must not import before its first block."""

import subprocess
import sys

HEAVY = ("bokeh", "dask", "distributed", "numba", "rich.console", "scipy.sparse", "torch")


def test_planning_and_running_import_nothing_heavy():
    code = (
        "import sys, volflow.engine.api, volflow.engine.worker.child_main\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    actual = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=500
    )
    assert actual.stdout.split() == []
