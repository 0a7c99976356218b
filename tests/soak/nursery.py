"""Drivers forked from a process that has imported everything, so that a start costs milliseconds.

python -m tests.soak.nursery     reads requests and writes answers, a line of JSON each:

    {"start": {...}}  ->  {"pid": 7}        run the command line of volflow in a fork
    {"poll": 7}       ->  {"code": null}    its exit code; negative: a signal; null: it runs
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from typing import Any

IMPORTED = (
    *("cli.run", "cli.terminal.execution", "cli.terminal.formatting", "cli.terminal.progress"),
    *("engine.api", "engine.driver", "engine.executors.slurm.jobs", "view.report.run.page"),
    *("stages.agglomerate", "stages.fragments", "stages.object_affinities", "stages.objects"),
    *("stages.relabel", "stages.score", "stages.synapses"),
)


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the harness's
    warm_up()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            sys.stdout.flush()
            pid = os.fork()
            if not pid:
                drive(request["start"])
            answer: dict[str, Any] = {"pid": pid}
        else:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if ended else None}
        print(json.dumps(answer), flush=True)


def warm_up() -> None:
    """Import all, and compile what numba compiles; no thread may be started.

    Raises
    ------
    RuntimeError
        If there is a thread: a fork would lack it, and with it the locks that it holds.
    """
    for name in IMPORTED:
        importlib.import_module(f"volflow.{name}")
    for name in ("distributed", "matplotlib.font_manager", "PIL.ImageFont", "tests.soak.stages"):
        importlib.import_module(name)
    compile_all()
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(f"expected one thread before the first fork; got {len(threads)}")


def compile_all() -> None:
    """Have the templates of reports compiled, and the stages by running them once in memory."""
    from tests.harness import run_in_memory
    from tests.soak.pipelines import BOUNDS, voxels
    from volflow.core.geometry import BlockGrid
    from volflow.metrics.voxels.border_mask import interior_mask
    from volflow.stages.agglomerate import Agglomerate
    from volflow.stages.fragments import Fragments
    from volflow.view.report.pages import _environment

    templates = _environment()
    for name in templates.list_templates():
        templates.get_template(name)
    volumes, grid = voxels(), BlockGrid(BOUNDS, (10, 9, 8))
    stages = Fragments(), Agglomerate(threshold=0.3, min_size=9, horizon=(10, 18, 16))
    run_in_memory(*stages, grid, volumes["affinity"], BOUNDS.start)
    interior_mask(volumes["truth"], 1.0, (1.0, 1.0, 1.0))


def drive(start: dict[str, Any]) -> None:
    """Become a driver: the command line of volflow, with a heartbeat and a place of its own.

    It does not return: the process ends with the exit code of the command line.
    """
    from volflow.cli import main as command_line
    from volflow.io.run import lock

    os.setsid()
    for descriptor, path in enumerate((os.devnull, start["log"], start["log"])):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if descriptor else os.O_RDONLY
        opened = os.open(path, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.update(start["environment"])
    os.chdir(start["folder"])
    tempfile.tempdir = None
    lock.BEAT, lock.STALE = start["heartbeat"]
    if place := start["place"]:  # as on another machine: its processes cannot be looked up
        lock._place = lambda: place  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line(start["arguments"])
    sys.exit("the command line returned")


if __name__ == "__main__":
    main()
