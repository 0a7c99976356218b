"""Overhead of the engine per block, of this version and another one, in turns.

    python -m benchmarks.engine.versions OLD [TURNS]     5

OLD is a checkout of another version, for which the same Python environment serves. In each turn
either version runs three stages that compute nothing (`idle_stages.py`), in a process of its own:
in that process alone, and on two local workers that are running already. It prints milliseconds per
block, of processor time (user and system, of all processes) and of wall time, and the ratios of the
turns: this version to the other one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIDE = 8  # voxels of a block, which is one chunk
BLOCKS = {"Nothing": 20_000, "Voxels": 2_000, "Rows": 2_000}
CLUSTERS = ("none", "local")
HERE = Path(__file__).resolve()

Times = tuple[float, float]
"""Processor time and wall time, in milliseconds per block."""


def main() -> None:
    old, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    versions = {"old": Path(old).resolve(), "new": HERE.parents[2]}
    times_of: dict[str, list[dict[str, Times]]] = {name: [] for name in versions}
    for turn in range(turns):
        for name in sorted(versions, reverse=bool(turn % 2)):
            times_of[name].append(_in_process_of_its_own(versions[name]))
    for case in times_of["new"][0]:
        for place, kind in enumerate(("processor", "wall")):
            new, before = (
                [turn[case][place] for turn in times_of[name]] for name in ("new", "old")
            )
            ratios = [one / other for one, other in zip(new, before, strict=True)]
            print(
                f"{case:16} {kind:9} old {statistics.median(before):.4f} "
                f"new {statistics.median(new):.4f} ms, ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


def _in_process_of_its_own(checkout: Path) -> dict[str, Times]:
    """The times of a version by cluster and stage."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(HERE), "--measure"]
    printed = subprocess.run(
        command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE
    ).stdout
    times: dict[str, Times] = json.loads(printed.splitlines()[-1])
    return times


# --- in a process with the version to measure on its path -----------------------------------------


def measure() -> dict[str, Times]:
    """The times of the version that this process imports, by cluster and stage."""
    times = {}
    for cluster in CLUSTERS:
        with tempfile.TemporaryDirectory() as folder:
            plans = {
                (stage, count): _plan(stage, count, f"{folder}/{stage}{count}")
                for stage, blocks in BLOCKS.items()
                for count in (16, blocks)
            }
            with _connected(cluster, next(iter(plans.values())).search_path) as executor:
                for (stage, count), plan in plans.items():
                    cost = _run(plan, executor)
                    if count == BLOCKS[stage]:
                        times[f"{cluster} {stage}"] = cost
    return times


def _plan(stage: str, blocks: int, run: str) -> Any:
    """The plan of one step with at least so many blocks."""
    from_dict = _first("volflow.config.pipeline:from_dict", "volflow.core.pipeline:from_dict")
    plan = _first("volflow.engine.plan.plan:plan", "volflow.engine.plan:plan")
    layers = -(-blocks // 400)
    return plan(
        from_dict(
            {
                "run": run,
                "bounds": f"0:{SIDE * layers},0:{SIDE * 20},0:{SIDE * 20}",
                "resolution": [10, 10, 10],
                "block": [SIDE, SIDE, SIDE],
                "volumes": {},
                "steps": [{"use": f"idle_stages:{stage}", "name": "idle"}],
            }
        )
    )


def _connected(
    cluster: str, search_path: tuple[str, ...]
) -> contextlib.AbstractContextManager[Any]:
    connect = _first("volflow.engine.executors.connect:connect", "volflow.engine.cluster:connect")
    path = (*search_path, str(HERE.parent))
    connected: contextlib.AbstractContextManager[Any] = connect(
        cluster, workers=2, search_path=path
    )
    return connected


def _run(plan: Any, executor: Any) -> Times:
    """Run the step of a plan on workers that are running; return its times."""
    prepare = _first("volflow.engine.driver:prepare", "volflow.engine.run:prepare")
    run_step = _first("volflow.engine.driver:run_step", "volflow.engine.run:run_step")
    result_of = _first("volflow.engine.result:StepResult", "volflow.engine.job:StepResult")
    observer = _first("volflow.engine.monitor.observer:RunObserver", "volflow.engine.watch:Watcher")
    step = plan.steps[0]
    result = result_of(step.name, step.blocks)
    with _locked(plan.pipeline.run, run_step) as options:
        prepare(plan.pipeline.run, step)
        wall, cpu = time.perf_counter(), _processor_time()
        run_step(step, result, executor, observer(), **options)
        seconds = _processor_time() - cpu, time.perf_counter() - wall
    assert result.done == step.blocks, result.failures[0]
    return 1000 * seconds[0] / step.blocks, 1000 * seconds[1] / step.blocks


@contextlib.contextmanager
def _locked(run: str, run_step: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The lock of a run as an argument of `run_step`, where the version has that argument."""
    with _first("volflow.io.run.lock:RunLock", "volflow.io.lock:RunLock")(run) as lock:
        yield {"lock": lock} if "lock" in run_step.__annotations__ else {}


def _processor_time() -> float:
    """User and system time of this process and its living descendants, in seconds."""
    import psutil

    here = psutil.Process()
    used = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in used)


def _first(*names: str) -> Any:
    """The first of several `module:name` that exists: versions have them in different modules."""
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            value = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
        return value
    raise ImportError(f"none of {names}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main()
